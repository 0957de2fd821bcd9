"""Batch normalization folded into the weights before they are rounded, once and for all.

Training then adapts the folded weights: what is rounded in training is exactly what the device rounds. Jacob et al.
(arXiv:1712.05877) fold anew in each step and keep on gathering statistics; Nagel et al. (*A White Paper on Neural Network
Quantization*, arXiv:2106.08295, 5.2.1) find folding once as good, and it leaves nothing that differs between training and
deployment.
"""

import torch
from torch import Tensor, fx, nn

from edgekit_export.training.captured import operator_name, shape_of

__all__ = ["fold_batchnorm_into_weights"]


def fold_batchnorm_into_weights(module: fx.GraphModule) -> int:
    """Folds in place every batch normalization that alone reads a convolution or a Linear; gives their number.

    Others stay as they are and keep their statistics.
    """
    folded = 0
    for node in list(module.graph.nodes):
        layer = node.args[0] if operator_name(node) == "batch_norm" else None
        if not isinstance(layer, fx.Node) or not _foldable(layer):
            continue
        weight_node = layer.args[1]
        assert isinstance(weight_node, fx.Node)
        if len(weight_node.users) > 1:  # shared with a layer that has another normalization, or none
            continue
        weight = _value(module, weight_node)
        gain, offset, mean, variance = (_value(module, given) if isinstance(given, fx.Node) else None for given in node.args[1:5])
        if mean is None or variance is None:
            continue
        epsilon = node.args[7]
        assert isinstance(epsilon, float)
        bias = layer.args[2] if len(layer.args) > 2 else None
        with torch.no_grad():
            factor = (gain if gain is not None else torch.ones_like(mean)) / (variance + epsilon).sqrt()
            shift = _value(module, bias) if isinstance(bias, fx.Node) else torch.zeros_like(mean)
            new_bias = (shift - mean) * factor + (offset if offset is not None else 0.0)
            new_weight = weight * factor.reshape(-1, *[1] * (weight.dim() - 1))
        name = f"{weight_node.target}_folded_bias"
        _set(module, str(weight_node.target), new_weight)
        _set(module, name, new_bias)
        with module.graph.inserting_before(layer):
            bias_node = module.graph.get_attr(name)
        bias_node.meta["val"] = new_bias
        layer.args = (layer.args[0], weight_node, bias_node, *layer.args[3:])
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)
        folded += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    return folded


def _foldable(layer: fx.Node) -> bool:
    weight = layer.args[1] if len(layer.args) > 1 else None
    return (
        (operator_name(layer) in ("conv1d", "conv2d") or _gives_matrix(layer))
        and len(layer.users) == 1
        and isinstance(weight, fx.Node)
        and weight.op == "get_attr"
    )


def _gives_matrix(layer: fx.Node) -> bool:
    """Whether a Linear gives (batch, channels); with more axes, normalization runs along another than its weight's."""
    shape = shape_of(layer)
    return operator_name(layer) == "linear" and shape is not None and len(shape) == 2


def _value(module: nn.Module, node: fx.Node) -> Tensor:
    path, _, attribute = str(node.target).rpartition(".")
    value: Tensor = getattr(module.get_submodule(path), attribute)
    return value.detach()


def _set(module: nn.Module, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, nn.Parameter(value.clone()))
