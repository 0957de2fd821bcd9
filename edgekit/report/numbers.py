"""How figures are written on the page: three significant digits, real minus signs, a dash for what was not measured.

The metric is any number where higher is better, so it is never written as a percentage.
"""

import math

__all__ = [
    "DASH",
    "decibels",
    "drop_decimals",
    "fixed",
    "interval",
    "megabytes",
    "plain",
    "ratio",
    "share",
    "significant",
    "with_unit",
]

DASH = "—"
MINUS = "−"
THIN_SPACE = "\u202f"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def significant(value: float | None, digits: int = 3) -> str:
    """`value` with that many significant digits.

    >>> significant(0.0031246), significant(1234.5), significant(-2.5e-9), significant(None)
    ('0.00312', '1\u202f234', '−2.50×10⁻⁹', '—')
    """
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])
    if not -5 <= exponent < 7:
        mantissa = f"{value:.{digits - 1}e}".partition("e")[0]
        return f"{mantissa}×10{str(exponent).translate(SUPERSCRIPTS)}".replace("-", MINUS)
    return _grouped(value, max(0, digits - 1 - exponent))


def fixed(value: float | None, decimals: int) -> str:
    """`value` with that many decimals, so that a column lines up."""
    if value is None or not math.isfinite(value):
        return DASH
    if abs(value) >= 1e7:
        return significant(value)
    return _grouped(value, decimals)


def _grouped(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}".replace(",", THIN_SPACE)
    if text.startswith("-"):
        text = text[1:] if set(text) <= set("-0.") else MINUS + text[1:]
    return text


def plain(value: float) -> str:
    """`value` as a person typed it, such as a budget: ``0.005``, not ``0.00500``.

    >>> plain(0.005), plain(0.0), plain(2.0)
    ('0.005', '0', '2')
    """
    if not math.isfinite(value):
        return "no limit" if value > 0 else DASH
    text = significant(value, 6)
    whole, power, exponent = text.partition("×")
    return (whole.rstrip("0").rstrip(".") if "." in whole else whole) + power + exponent


def drop_decimals(max_drop: float) -> int:
    """Decimals that resolve the budget well: 4 for 0.005 and for 0.01, 3 for 0.1."""
    if not math.isfinite(max_drop) or max_drop <= 0:
        return 4
    return min(8, max(1, math.floor(-math.log10(max_drop)) + 2))


def interval(ends: tuple[float, float] | None, decimals: int | None = None) -> str:
    """The two ends of a 95 % interval, or nothing where there is none."""
    if ends is None or not all(math.isfinite(end) for end in ends):
        return ""
    low, high = (significant(end) if decimals is None else fixed(end, decimals) for end in ends)
    return f"{low} to {high}"


def with_unit(value: float | None, unit: str) -> str:
    """Three significant digits and a unit that does not break away from them."""
    text = significant(value)
    return text if text == DASH else f"{text}\u00a0{unit}"


def ratio(value: float | None) -> str:
    """A ratio, such as ``2.31×``."""
    text = significant(value)
    return text if text == DASH else f"{text}×"


def megabytes(size_bytes: int | None) -> str:
    """Bytes in megabytes (10⁶), without the unit."""
    return DASH if size_bytes is None else significant(size_bytes / 1e6)


def decibels(value: float | None) -> str:
    """One decimal: a tenth of a decibel is finer than anything that matters."""
    return fixed(value, 1)


def share(fraction: float) -> str:
    r"""A share of a whole, in percent, never rounded to all or to nothing.

    >>> [share(fraction).replace("\u00a0", " ") for fraction in (0.25, 0.99996, 0.00001, 1.0)]
    ['25 %', '> 99.9 %', '< 0.01 %', '100 %']
    """
    if fraction in (0, 1):
        return f"{fraction:.0%}".replace("%", "\u00a0%")
    if fraction < 0.0001:
        return "<\u00a00.01\u00a0%"
    if fraction > 0.999:
        return ">\u00a099.9\u00a0%"
    return f"{100 * fraction:.2g}\u00a0%" if fraction < 0.995 else f"{100 * fraction:.1f}\u00a0%"
