"""edgekit takes a model from PyTorch to a phone or a Raspberry Pi, and says what it lost and won on the way."""

from edgekit.recipe import Recipe

__all__ = ["Recipe"]
