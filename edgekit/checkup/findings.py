"""One thing that the doctor found."""

from typing import Literal

import msgspec

__all__ = ["Finding", "Severity"]

Severity = Literal["ok", "warning", "problem"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that the doctor found.

    Attributes:
        severity: ``ok``; ``warning``, it costs speed, accuracy or comfort; ``problem``, something will not work.
        what: What it is.
        why: Why it matters here.
        do: What to do next; empty where there is nothing to do.
    """

    severity: Severity
    what: str
    why: str
    do: str = ""
