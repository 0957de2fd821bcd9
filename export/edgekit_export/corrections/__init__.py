"""Corrections: what is done to a graph against quantization's error. Each is a pass of its own.

Before ranges are collected: `equalize`, `smooth`. Before quantization: `learn_rounding`. After it: `correct_bias`.
"""

from edgekit_export.corrections.bias import correct_bias
from edgekit_export.corrections.equalize import equalize
from edgekit_export.corrections.maxima import channel_maxima
from edgekit_export.corrections.rounding import learn_rounding
from edgekit_export.corrections.smooth import smooth

__all__ = ["channel_maxima", "correct_bias", "equalize", "learn_rounding", "smooth"]
