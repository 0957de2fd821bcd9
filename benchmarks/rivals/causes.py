"""Why edgekit's choice lost to the best rival of equal or better SQNR, by network: written by hand, each with its evidence."""

__all__ = ["CAUSES"]

CAUSES: dict[str, str] = {}
