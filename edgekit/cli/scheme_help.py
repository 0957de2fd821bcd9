"""The help of `edgekit quantize`, which says how schemes are called."""

__all__ = ["QUANTIZE_HELP"]

# Kept in step with the schemes by a test: to ask them here would import torch.
QUANTIZE_HELP = """
Quantize in one scheme; deploy is what measures several and chooses.

\b
A scheme is one of
  dynamic-FLAVOUR
  static-FLAVOUR-METHOD-PLACEMENT[-tensor][-floatoutputs][-CORRECTION...]
  weights-int8-bBLOCK or weights-int4-bBLOCK, [-asymmetric][-level1]
  float16[-stored] or bfloat16[-stored]
or several joined by +, where each takes what those before it left in float.
An integer one may end in -floattables, which keeps embedding tables in float.

\b
FLAVOUR:    u8s8 u8s7 u8u8 s8s8 s8s7 u16s8 s16s8 (activations, then weights)
METHOD:     minmax average percentile entropy mse
PLACEMENT:  everything convnet linear weighted conv
CORRECTION: equalized smoothed rounded debiased, in this order
BLOCK:      16 32 64 128 256
"""
