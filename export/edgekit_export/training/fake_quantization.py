"""Rounding to integers and back within floats, with gradients for what is rounded, for the step and for the zero point.

The forward arithmetic is that of ONNX's QuantizeLinear and DequantizeLinear (round half to even, then saturate), so that the
integer graph computes the same numbers. The gradients are those of Esser et al., *Learned Step Size Quantization*
(arXiv:1902.08153), and for the zero point of Bhalgat et al., *LSQ+* (arXiv:2004.09576).
"""

from typing import Any

import torch
from torch import Tensor

__all__ = ["fake_quantize", "rounded", "scaled_gradient"]


class _FakeQuantize(torch.autograd.Function):
    """``clamp(round(x / scale), low, high) * scale`` with zero point taken into `low` and `high` by the caller."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
        least, most = low - zero_point, high - zero_point
        steps = torch.div(x, scale).round_()
        if zero_point.numel() == 1:
            steps.clamp_(float(least), float(most))
        else:
            steps = torch.minimum(torch.maximum(steps, least), most)
        result = steps.mul_(scale)
        ctx.save_for_backward(x, result, scale, zero_point)
        ctx.low, ctx.high = low, high
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, result, scale, zero_point = ctx.saved_tensors
        # Half a step beyond the ends still rounds to them.
        least = (ctx.low - zero_point - 0.5) * scale
        most = (ctx.high - zero_point + 0.5) * scale
        for_scale = for_zero = None
        if scale.numel() > 1:
            inside = gradient * ((x > least) & (x < most))
            if ctx.needs_input_grad[1]:
                # In range: rounded less unrounded; outside: the end that it is held at. Both in steps.
                for_scale = ((gradient * result - inside * x) / scale).sum_to_size(scale.shape)
            if ctx.needs_input_grad[2]:
                for_zero = -((gradient - inside) * scale).sum_to_size(zero_point.shape)
            return inside, for_scale, for_zero, None, None
        # The same for one step for all, as sums without a tensor in between: activations are large, and this is most of the cost.
        inside = torch.ops.aten.hardtanh_backward(gradient, x, float(least), float(most))
        if ctx.needs_input_grad[1]:
            for_scale = ((_product_sum(gradient, result) - _product_sum(inside, x)) / scale).reshape(scale.shape)
        if ctx.needs_input_grad[2]:
            for_zero = (-(gradient.sum() - inside.sum()) * scale).reshape(zero_point.shape)
        return inside, for_scale, for_zero, None, None


def _product_sum(one: Tensor, other: Tensor) -> Tensor:
    """Sum of the products of two tensors of one shape, ()."""
    if one.stride() == other.stride() and one.numel() == one.untyped_storage().nbytes() // one.element_size():
        size, stride = (one.numel(),), (1,)
        if other.numel() == other.untyped_storage().nbytes() // other.element_size():  # both fill their memory
            return torch.dot(one.as_strided(size, stride, 0), other.as_strided(size, stride, 0))
    return (one * other).sum()


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    """What is left of `x` after it went through integers.

    Args:
        x: Any shape.
        scale: Size of a step, of a shape that broadcasts to that of `x`.
        zero_point: The integer that stands for zero, as a float without fraction.
        low: Smallest integer.
        high: Largest integer.

    Returns:
        The shape of `x`.
    """
    result: Tensor = _FakeQuantize.apply(x, scale, zero_point, low, high)  # type: ignore[no-untyped-call]
    return result


def rounded(x: Tensor) -> Tensor:
    """The nearest integers, half to even; gradients pass as if nothing was rounded (Bengio et al., arXiv:1308.3432)."""
    return x + (x.round() - x).detach()


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """The same values, whose gradient is multiplied."""
    return x * factor + (x - x * factor).detach()
