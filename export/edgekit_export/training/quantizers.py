"""Quantizers that learn their step: one for a tensor between operators, one for a weight.

A step is learned as its logarithm relative to where calibration put it: it stays positive, one learning rate suits tensors of
all sizes (Jain et al., *Trained Quantization Thresholds*, arXiv:1903.08066), and weight decay pulls back to the calibrated step
and not to zero. Its gradient is that of LSQ, scaled as there by the number of values and of steps.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgekit_export.calibration import Histogram, ranges_from
from edgekit_export.calibration.ranges import Method
from edgekit_export.training.fake_quantization import fake_quantize, rounded, scaled_gradient
from edgekit_runtime.errors import CalibrationError

__all__ = ["ActivationQuantizer", "Grid", "SameQuantizer", "WeightQuantizer"]

# A tensor that was zero throughout calibration still needs a step.
SMALLEST_STEP = 1e-8


@dataclass(frozen=True)
class Grid:
    """The integers that values are rounded to.

    Attributes:
        low: Smallest.
        high: Largest.
        dtype: How they are stored.
        zero_point: What stands for zero; ``None`` where calibration and training find it.
        start: Where `low` stands for a given value below zero, it: training then finds the zero point, and the step follows. For
            what only Hardswish reads, which is zero below −3: the steps from −3 to 3 come out even, as its integer form needs.
        scale: The step where it is given; ``None`` where calibration and training find it. For HardSigmoid, likewise.
    """

    low: int
    high: int
    dtype: torch.dtype
    zero_point: int | None
    start: float | None = None
    scale: float | None = None


class ActivationQuantizer(nn.Module):
    """Rounds a tensor to 8 bits, one step for all of it.

    It observes until `settle` is called, and lets everything pass as in the float network.

    Args:
        name: The tensor's name.
        grid: The integers.
        clamp: Ends that an activation function in front of it has, which it stands in for: ``(0, None)`` for ReLU.
    """

    def __init__(self, name: str, grid: Grid, clamp: tuple[float | None, float | None] = (None, None)) -> None:
        super().__init__()
        self.name = name
        self.grid = grid
        self.clamp = clamp
        self.histogram: Histogram | None = Histogram()
        # All that there is to save is tensors, so that any format for weights holds it.
        self.register_buffer("settled", torch.tensor(False))
        self.register_buffer("features", torch.ones((), dtype=torch.int64))
        self.register_buffer("calibrated_scale", torch.ones(()))
        self.register_buffer("calibrated_zero_point", torch.tensor(float(grid.zero_point or 0)))
        self.log_scale = nn.Parameter(torch.zeros(())) if grid.scale is None else None
        # In shares of the range, so that the same learning rate moves it as far as the step.
        self.shift = nn.Parameter(torch.zeros(())) if grid.zero_point is None and grid.start is None else None

    settled: Tensor
    features: Tensor
    calibrated_scale: Tensor
    calibrated_zero_point: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        if self.histogram is not None:
            return self._observed(x)
        factor = 1 / math.sqrt(int(self.features) * self.grid.high)
        scale, zero_point = scaled_gradient(self.scale(), factor), scaled_gradient(self.zero_point(), factor)
        return fake_quantize(x, scale, zero_point, self.grid.low, self.grid.high)

    def scale(self) -> Tensor:
        """Size of a step, ()."""
        if self.log_scale is None:
            return self.calibrated_scale
        if self.grid.start is not None:
            return -self.grid.start / self._steps_below_zero()
        scale = self.calibrated_scale * self.log_scale.exp()
        ceiling = self.clamp[1]
        # The last step must not lie past the end of the activation function that this stands in for.
        return scale if ceiling is None else scale.clamp(max=ceiling / (self.grid.high - self.grid.low))

    def zero_point(self) -> Tensor:
        """The integer for zero, (), as a float."""
        if self.grid.start is not None:
            return self.grid.low + self._steps_below_zero()
        if self.shift is None:
            return self.calibrated_zero_point
        moved = self.calibrated_zero_point + self.shift * (self.grid.high - self.grid.low)
        return rounded(moved.clamp(self.grid.low, self.grid.high))

    def settle(self, method: Method) -> None:
        """Sets the step by what was observed, and rounds from now on.

        Raises:
            CalibrationError: Nothing was observed.
        """
        histogram = self.histogram
        if histogram is None:
            return
        if not histogram.seen:
            raise CalibrationError(f"fake-quantize: no calibration example reached tensor {self.name!r}; give examples that do")
        self.histogram = None
        self.settled.fill_(value=True)
        low, high = ranges_from({self.name: histogram}, method).bounds[self.name]
        low, high = min(low, 0.0), max(high, 0.0)
        levels = self.grid.high - self.grid.low
        if self.grid.scale is not None:
            self.calibrated_scale.fill_(self.grid.scale)
            return
        if self.grid.start is not None:
            below = min(max(int(-self.grid.start * levels / (high - self.grid.start)), 1), levels - 1)
            self.calibrated_scale.fill_(-self.grid.start / below)
            self.calibrated_zero_point.fill_(self.grid.low + below)
            return
        if self.grid.zero_point == 0 and self.grid.low < 0:  # symmetric
            scale = max(-low, high) / self.grid.high
        else:
            scale = (high - low if self.grid.zero_point is None else high) / levels
        scale = max(scale, SMALLEST_STEP)
        self.calibrated_scale.fill_(scale)
        if self.grid.zero_point is None:
            self.calibrated_zero_point.fill_(round(min(max(self.grid.low - low / scale, self.grid.low), self.grid.high)))

    def _steps_below_zero(self) -> Tensor:
        """How many steps there are from the grid's start to zero, a whole number."""
        assert self.log_scale is not None
        below = (self.calibrated_zero_point - self.grid.low) * (-self.log_scale).exp()
        return rounded(below.clamp(1, self.grid.high - self.grid.low - 1))

    def _observed(self, x: Tensor) -> Tensor:
        assert self.histogram is not None
        if self.clamp != (None, None):
            x = x.clamp(*self.clamp)
        values = x.detach()
        if not bool(torch.isfinite(values).all()):
            raise CalibrationError(
                f"fake-quantize: tensor {self.name!r} holds NaN or infinity on a calibration example; no integer can hold it"
            )
        self.histogram.add(values.cpu().numpy())
        self.features.fill_(max(x[0].numel() if x.dim() else 1, 1))
        return x

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self.histogram = None if bool(self.settled) else Histogram()


class SameQuantizer(nn.Module):
    """Marks a tensor whose values lie on another quantizer's steps already, such as behind a reshape: nothing to round.

    The integer graph states the steps again there, since runtimes look for them on both sides of an operator.

    Args:
        quantizer: The other; it is no part of this one's own parameters.
    """

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self._quantizer = (quantizer,)

    @property
    def quantizer(self) -> ActivationQuantizer:
        """The other."""
        return self._quantizer[0]

    def forward(self, x: Tensor) -> Tensor:
        """The same tensor."""
        return x


class WeightQuantizer(nn.Module):
    """Rounds a weight, with a step for each output channel, or one for all.

    Args:
        weight: (out, ...), to set the first steps by: those of the least squared error.
        grid: The integers, symmetric.
        per_channel: Whether each output channel has its own step.
    """

    def __init__(self, weight: Tensor, grid: Grid, *, per_channel: bool) -> None:
        super().__init__()
        self.grid = grid
        rows = weight.detach().flatten(1) if per_channel else weight.detach().reshape(1, -1)
        self.per_channel = per_channel
        self._shape = (-1, *[1] * (weight.dim() - 1)) if per_channel else ()
        self._factor = 1 / math.sqrt(max(rows.shape[1], 1) * self.levels)
        steps = _least_error(rows, self.levels)
        self.register_buffer("calibrated_scale", steps if per_channel else steps.reshape(()))
        self.log_scale = nn.Parameter(torch.zeros_like(self.calibrated_scale))

    calibrated_scale: Tensor

    @property
    def levels(self) -> int:
        """Steps on either side of zero."""
        return (self.grid.high - self.grid.low) // 2

    def forward(self, weight: Tensor) -> Tensor:
        """The rounded weight, of the same shape."""
        scale = scaled_gradient(self.scale(), self._factor).reshape(self._shape)
        return fake_quantize(weight, scale, torch.zeros((), device=weight.device), -self.levels, self.levels)

    def scale(self) -> Tensor:
        """Steps, (out,) or ()."""
        return self.calibrated_scale * self.log_scale.exp()

    def integers(self, weight: Tensor) -> Tensor:
        """The weight as stored, in the grid's dtype."""
        with torch.no_grad():
            steps = (weight / self.scale().reshape(self._shape)).round().clamp(-self.levels, self.levels)
            return (steps + (self.grid.zero_point or 0)).to(self.grid.dtype)


def _least_error(rows: Tensor, levels: int) -> Tensor:
    """A step for each row, (rows,), by search: clipping the largest values can cost less than it gains for the others."""
    largest = rows.abs().amax(1)
    best = (largest / levels).clamp(min=SMALLEST_STEP)
    least = torch.full_like(largest, torch.inf)
    for share in torch.linspace(0.5, 1.0, 51, dtype=rows.dtype, device=rows.device):
        step = (share * largest / levels).clamp(min=SMALLEST_STEP)[:, None]
        error = ((rows / step).round().clamp(-levels, levels) * step - rows).square().sum(1)
        best, least = torch.where(error < least, step[:, 0], best), torch.minimum(error, least)
    return best
