"""Frozen layers: integers in place of learned steps, which export to plain QuantizeLinear and DequantizeLinear.

Run as they are they compute what the fake-quantized module computes, so that an exported graph can be compared with them.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from edgekit_export.training.quantized_layer import QuantizedLayer, apply
from edgekit_export.training.quantizers import ActivationQuantizer

__all__ = ["FrozenLayer", "FrozenQuantizer"]

ONNX_VERSION = 19  # below what torch exports to by default, and the first whose scales may be of any float type
LINEAR_RANK = 2  # Gemm takes matrices


class FrozenQuantizer(nn.Module):
    """An activation's quantizer with its step as it was learned.

    Args:
        quantizer: It.
    """

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.grid = quantizer.grid
        self.register_buffer("scale", quantizer.scale().detach().clone())
        self.register_buffer("zero_point", quantizer.zero_point().detach().to(quantizer.grid.dtype))

    scale: Tensor
    zero_point: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if torch.compiler.is_exporting():
            integers = torch.onnx.ops.symbolic(
                "QuantizeLinear",
                [x, self.scale, self.zero_point],
                dtype=self.grid.dtype,
                shape=x.shape,
                version=ONNX_VERSION,
            )
            return _dequantized(integers, self.scale, self.zero_point, None)
        zero_point = self.zero_point.to(x.dtype)
        steps = (x / self.scale).round().clamp(self.grid.low - float(zero_point), self.grid.high - float(zero_point))
        return steps * self.scale


class FrozenLayer(nn.Module):
    """A convolution or a Linear with its weight and bias in integers.

    Args:
        layer: It, as trained.
    """

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        self.operator = layer.operator
        self.rest = copy.deepcopy(layer.rest)
        self.register_buffer("weight", layer.quantizer.integers(layer.weight))
        self.register_buffer("weight_scale", layer.quantizer.scale().detach().clone())
        self.register_buffer(
            "weight_zero_point",
            torch.full_like(self.weight_scale, layer.quantizer.grid.zero_point or 0).to(layer.quantizer.grid.dtype),
        )
        self.register_buffer("bias", layer.bias_integers())
        self.register_buffer("bias_scale", layer.bias_scale().clone())

    weight: Tensor
    weight_scale: Tensor
    weight_zero_point: Tensor
    bias: Tensor | None
    bias_scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """As the operator."""
        axis = 0 if self.weight_scale.dim() else None
        weight = _dequantized(self.weight, self.weight_scale, self.weight_zero_point, axis)
        bias = None if self.bias is None else _dequantized(self.bias, self.bias_scale, None, axis)
        if self.operator != "linear" or x.dim() == LINEAR_RANK:
            return apply(self.operator, x, weight, bias, self.rest)
        # As one matrix: Gemm has an integer kernel that adds the bias and gives integers, MatMul has none that does both.
        flat = apply(self.operator, x.flatten(0, -2), weight, bias, self.rest)
        return flat.reshape([*_leading(x.shape[:-1]), flat.shape[-1]])


def _leading(sizes: Any) -> list[Any]:
    """Sizes of the leading axes; one that is free is left to the reshape to find, which saves computing it."""
    free = [index for index, size in enumerate(sizes) if not isinstance(size, int)]
    return [-1 if [index] == free else size for index, size in enumerate(sizes)]


def _dequantized(integers: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int | None) -> Tensor:
    if torch.compiler.is_exporting():
        given = [integers, scale] if zero_point is None else [integers, scale, zero_point]
        return torch.onnx.ops.symbolic(
            "DequantizeLinear",
            given,
            {} if axis is None else {"axis": axis},
            dtype=scale.dtype,
            shape=integers.shape,
            version=ONNX_VERSION,
        )
    shape = (-1, *[1] * (integers.dim() - 1)) if axis is not None else ()
    steps = integers.to(scale.dtype)
    if zero_point is not None:
        steps = steps - zero_point.to(scale.dtype).reshape(shape)
    return steps * scale.reshape(shape)
