"""The report: one offline page that says what ships, how that is known, and why every other candidate lost."""

from edgekit.report.page import render

__all__ = ["render"]
