"""Split the inputs of an LSTM whose weights are outliers into several with a share of the weight each.

Outlier channel splitting (Zhao, Hu, Dotzel, De Sa and Zhang, *Improving Neural Network Quantization without Retraining using
Outlier Channel Splitting*, ICML 2019): ``w · x = (w / k) · x + … + (w / k) · x``. The row's largest weight, and with it the step of
all its weights, becomes k times smaller, for k - 1 more inputs. An LSTM's state cannot be split so; outliers there are left to
`recurrent.recurrent_to_spare`.

Measured in dynamic int8 on an LSTM of 64 inputs and 96 units with one input's weights 40 times as large as the others': 14 more
inputs, SQNR of the outputs 21.0 → 30.2 dB (31.2 without outliers), and 10.6 → 22.0 dB where that input's values are 40 times
smaller.

Requires: constants as initializers. Ensures: the same function of the input up to float rounding.
"""

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from edgekit_export.graph import Graph
from edgekit_export.initializers import add_initializer
from edgekit_export.recurrent import gate_fidelity
from edgekit_export.rewiring import constant

__all__ = ["split_outlier_inputs"]

# Largest weight of a row against the deviation of its typical ones, tried in turn. A normal distribution has 3 to 4; 8 was better
# than 4, which splits many more inputs, and each adds its error to the sum.
LIMITS = (8.0, 12.0, 16.0, 24.0)
MOST_EXTRA = 0.25
# Weights of a normal distribution keep 37 dB; a few inputs more cost less than the bit that is lost here.
SPLIT_BELOW_DB = 31.0
# The weights of a normal distribution lie within .6745 deviations of zero half of the time.
MEDIAN_OF_NORMAL = 0.6745
BITS = 7


def split_outlier_inputs(graph: Graph, enough_db: float = SPLIT_BELOW_DB, most_extra: float = MOST_EXTRA) -> Graph:
    """The graph with outlier inputs of its LSTMs split, where 7 bits would wreck them otherwise.

    Args:
        graph: With constants as initializers.
        enough_db: Layers whose input weights keep this fidelity stay as they are.
        most_extra: The most inputs to add, as a share of those there are; at least one is always allowed.
    """

    def edit(model: ir.Model) -> str | None:
        done = []
        for node in list(model.graph):
            weight = constant(node.inputs[1]) if node.op_type == "LSTM" and node.domain == "" else None
            if weight is None or node.attributes.get_int("layout", 0) != 0 or gate_fidelity(weight, 4, BITS).min() >= enough_db:
                continue
            shares = _shares(weight, max(1, int(most_extra * weight.shape[2])))
            if shares is None:
                continue
            _split(node, weight, shares, model.graph)
            done.append(f"{shares.sum() - len(shares)} more for {node.name}")
        common.RemoveUnusedNodesPass()(model)
        return ", ".join(done) or None

    return graph.changed("split outlier inputs", edit)


def _shares(weight: np.ndarray, most: int) -> np.ndarray | None:
    """Into how many each input is split: (inputs,); ``None`` where nothing within the limit helps."""
    deviation = np.median(np.abs(weight), axis=2, keepdims=True) / MEDIAN_OF_NORMAL
    ratio = (np.abs(weight) / np.where(deviation > 0, deviation, np.inf)).max(axis=(0, 1))
    for limit in LIMITS:
        shares: np.ndarray = np.maximum(1, np.ceil(ratio / limit)).astype(np.int64)
        if 0 < int((shares - 1).sum()) <= most:
            better = gate_fidelity(_weights(weight, shares), 4, BITS).min() > gate_fidelity(weight, 4, BITS).min()
            return shares if better else None
    return None


def _order(shares: np.ndarray) -> np.ndarray:
    """The inputs as they are, then the copies."""
    inputs = np.arange(len(shares))
    return np.concatenate([inputs, np.repeat(inputs, shares - 1)])


def _weights(weight: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray((weight / shares.astype(weight.dtype))[:, :, _order(shares)])


def _split(node: ir.Node, weight: np.ndarray, shares: np.ndarray, graph: ir.Graph) -> None:
    indices = add_initializer(graph, f"{node.name}_inputs", _order(shares).astype(np.int64))
    copies = ir.node("Gather", [node.inputs[0], indices], {"axis": 2}, name=f"{node.name}_copies")
    graph.insert_before(node, copies)
    node.replace_input_with(0, copies.outputs[0])
    node.replace_input_with(1, add_initializer(graph, f"{node.name}_split_weight", _weights(weight, shares)))
