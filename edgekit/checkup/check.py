"""One check of the doctor's and how it came out."""

from typing import Literal

import msgspec

__all__ = ["Check", "Severity"]

Severity = Literal["ok", "warning", "problem"]


class Check(msgspec.Struct, frozen=True):
    """One check of the doctor's and how it came out.

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
