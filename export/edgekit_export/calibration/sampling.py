"""Which values of a large tensor go into its histogram: every n-th, n prime.

Minimum and maximum are taken over all values, always. Counting them all would cost several times the inference itself, so
of a tensor with `COUNTED_WHOLE` values or more only a part is counted. The rule looks at nothing but the number of values:
not at the example's place in the data, so that shards merge to what one pass gives, and not at the values. The stride is a
prime of at least 11, so it shares no factor with the usual numbers of channels, heads, rows and columns (which are made of 2,
3, 5 and 7) and visits all of them alike.

What that costs: the share p of the values that lies beyond some bound is known with a standard error of √(p / n) for n
counted values. For the percentile method (p = 0.00005 at each end) and 64 examples of a large tensor, n is between a
quarter and half a million: the end is placed by some 20 values, and for a bell-shaped tensor its bound is then known to
about 2 %. Measured on EfficientNet-Lite0 with 64 photographs, against histograms of all values: the width of the range is
the same for half of the tensors, and for nine in ten within 3 % (percentile, mse) and 8 % (entropy, whose minimum is flat).
"""

import numpy as np

__all__ = ["COUNTED_WHOLE", "SAMPLE", "sample", "stride_table"]

SAMPLE = 8192
"""At most this many values of a large tensor are counted for each example."""
COUNTED_WHOLE = 2 * SAMPLE
"""Tensors with fewer values are counted whole."""
SMALLEST_STRIDE = 11
LARGEST_MULTIPLE = 1 << 17
"""Tensors of up to this many samples (2³⁰ values) have a stride of their own; still larger ones share the largest."""


def stride_table() -> np.ndarray:
    """Strides by ``size // SAMPLE``: int64, of length `LARGEST_MULTIPLE`."""
    largest = LARGEST_MULTIPLE + 1000  # there are primes in the last thousand
    is_prime = np.ones(largest, bool)
    is_prime[:2] = False
    for factor in range(2, int(largest**0.5) + 1):
        if is_prime[factor]:
            is_prime[factor * factor :: factor] = False
    primes = np.flatnonzero(is_prime)
    needed = np.maximum(np.arange(LARGEST_MULTIPLE) + 1, SMALLEST_STRIDE)
    strides = primes[np.searchsorted(primes, needed)].astype(np.int64)
    strides[: COUNTED_WHOLE // SAMPLE] = 1
    return strides


STRIDES = stride_table()


def sample(values: np.ndarray) -> np.ndarray:
    """The values that are counted, of any shape → (counted,)."""
    return values.reshape(-1)[:: int(STRIDES[min(values.size // SAMPLE, LARGEST_MULTIPLE - 1)])]
