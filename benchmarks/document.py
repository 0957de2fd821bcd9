"""What every benchmark prints: rows for a person, then one JSON document as the last line.

::

    {"benchmark": NAME, "date", "machine", "rows": [{…}], "bars": [{"name", "value", "limit", "holds"}]}
"""

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
import numpy as np

from edgekit_runtime.machine import machine

__all__ = ["Bar", "Interval", "at_least", "at_most", "describe_machine", "median_interval", "publish"]

Row = Mapping[str, Any]
Interval = tuple[float, float]
PACKAGES = ("edgekit-runtime", "edgekit-export", "edgekit", "numpy", "onnxruntime", "torch")


class Bar(msgspec.Struct, frozen=True):
    """A figure that an issue asked for.

    Attributes:
        name: What is measured, with its unit.
        value: The figure; ``None`` where it could not be measured, and then the bar does not hold.
        limit: What the issue asks for.
        holds: Whether the value is on the right side of the limit.
    """

    name: str
    value: float | None
    limit: float
    holds: bool


def at_most(name: str, value: float | None, limit: float) -> Bar:
    """A bar that holds up to `limit`."""
    return _bar(name, value, limit, lambda figure: figure <= limit)


def at_least(name: str, value: float | None, limit: float) -> Bar:
    """A bar that holds from `limit` on."""
    return _bar(name, value, limit, lambda figure: figure >= limit)


def median_interval(values: Sequence[float], seed: int = 0, resamples: int = 2000) -> Interval:
    """95 % percentile bootstrap interval of the median of `values`."""
    array = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(0, array.size, (resamples, array.size))
    low, high = np.percentile(np.median(array[draws], axis=1), [2.5, 97.5])
    return float(low), float(high)


def describe_machine() -> dict[str, Any]:
    """This machine and the versions of what runs on it."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {**msgspec.to_builtins(machine()), "versions": versions}


def publish(benchmark: str, rows: Sequence[Row], bars: Sequence[Bar]) -> dict[str, Any]:
    """Prints rows and bars for a person and the document as the last line; gives the document.

    Figures that JSON cannot hold (NaN, infinity) become null.
    """
    for line in _table(rows):
        print(line)
    for bar in bars:
        verdict = "holds" if bar.holds else "FALLS SHORT"
        print(f"{verdict}: {bar.name}: {_text(bar.value)} (limit {_text(bar.limit)})")
    document = {
        "benchmark": benchmark,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "rows": [dict(row) for row in rows],
        "bars": [msgspec.to_builtins(bar) for bar in bars],
    }
    plain: dict[str, Any] = _finite(document)
    print(json.dumps(plain, allow_nan=False), flush=True)
    return plain


def _bar(name: str, value: float | None, limit: float, holds: Callable[[float], bool]) -> Bar:
    known = value is not None and math.isfinite(value)
    return Bar(name, float(value) if value is not None and known else None, limit, value is not None and known and holds(value))


def _table(rows: Sequence[Row]) -> list[str]:
    """Rows under the union of their keys, in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return []
    cells = [columns, *([_text(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return str(value)


def _finite(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
