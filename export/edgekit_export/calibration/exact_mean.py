"""A mean without rounding, so that the order of its parts cannot matter."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

__all__ = ["ExactMean"]

UNIT_BITS = 1074
"""Every finite double is a whole multiple of two to the minus this."""


@dataclass
class ExactMean:
    """Sum and number of finite doubles.

    Attributes:
        total: The sum, in units of 2⁻¹⁰⁷⁴: a Python integer, which grows as it must (some 270 bytes).
        count: How many there were.
    """

    total: int = 0
    count: int = 0

    def add(self, values: Iterable[float]) -> None:
        """Adds finite values."""
        for value in values:
            numerator, denominator = value.as_integer_ratio()  # the denominator is a power of two
            self.total += numerator << (UNIT_BITS + 1 - denominator.bit_length())
            self.count += 1

    def merge(self, other: "ExactMean") -> None:
        """Adds what another mean saw."""
        self.total += other.total
        self.count += other.count

    @property
    def value(self) -> float:
        """The mean, rounded once; the mean of nothing is 0."""
        return float(Fraction(self.total, self.count << UNIT_BITS)) if self.count else 0.0
