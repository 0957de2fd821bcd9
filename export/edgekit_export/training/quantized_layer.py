"""A convolution or a Linear whose weight and bias are rounded as its integer kernel has them."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from edgekit_export.training.fake_quantization import rounded
from edgekit_export.training.quantizers import ActivationQuantizer, Grid, WeightQuantizer

__all__ = ["QuantizedLayer", "apply"]

# Sums of products are 32-bit; a bias that took all of that would leave none to them.
LARGEST_BIAS = 2**30


class QuantizedLayer(nn.Module):
    """Rounds its weight and its bias, then computes as the operator does.

    Args:
        operator: ``conv1d``, ``conv2d`` or ``linear``.
        rest: The operator's arguments behind the bias: stride, padding, dilation, groups.
        weight: (out, in, ...).
        bias: (out,), or ``None``.
        quantizer: Of its input; it is no part of this module's own parameters.
        grid: The weight's integers.
        per_channel: Whether each output channel has a step of its own.
    """

    def __init__(
        self,
        operator: str,
        rest: tuple[Any, ...],
        weight: Tensor,
        bias: Tensor | None,
        quantizer: ActivationQuantizer,
        grid: Grid,
        *,
        per_channel: bool,
    ) -> None:
        super().__init__()
        self.operator = operator
        self.rest = copy.deepcopy(rest)
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.quantizer = WeightQuantizer(weight, grid, per_channel=per_channel)
        self._input = (quantizer,)

    @property
    def input(self) -> ActivationQuantizer:
        """The quantizer of its input."""
        return self._input[0]

    def forward(self, x: Tensor) -> Tensor:
        """As the operator."""
        if self.input.histogram is not None:
            return apply(self.operator, x, self.weight, self.bias, self.rest)
        return apply(self.operator, x, self.quantizer(self.weight), self._rounded_bias(), self.rest)

    def bias_scale(self) -> Tensor:
        """Step of the sums of products, and so of the bias: (out,) or ()."""
        return (self.input.scale() * self.quantizer.scale()).detach()

    def bias_integers(self) -> Tensor | None:
        """The bias as stored, int32."""
        if self.bias is None:
            return None
        with torch.no_grad():
            return (self.bias / self.bias_scale()).round().clamp(-LARGEST_BIAS, LARGEST_BIAS).to(torch.int32)

    def make_room_for_bias(self) -> None:
        """Widens steps of weights so small, next to their bias, that it would not fit 32 bits; once ranges are known."""
        if self.bias is not None:
            needed = self.bias.detach().abs() / (self.input.scale().detach() * LARGEST_BIAS)
            scale = self.quantizer.calibrated_scale
            scale.copy_(torch.maximum(scale, needed if scale.dim() else needed.max()))

    def _rounded_bias(self) -> Tensor | None:
        if self.bias is None:
            return None
        scale = self.bias_scale()
        return rounded(self.bias / scale).clamp(-LARGEST_BIAS, LARGEST_BIAS) * scale


def apply(operator: str, x: Tensor, weight: Tensor, bias: Tensor | None, rest: tuple[Any, ...]) -> Tensor:
    """The operator by its name among ATen's."""
    result: Tensor = getattr(torch.ops.aten, operator)(x, weight, bias, *rest)
    return result
