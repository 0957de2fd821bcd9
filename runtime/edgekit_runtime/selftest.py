"""The self-test: a bundle runs its golden inputs here and compares with what the build machine saw.

Integer kernels differ between processors by a step or so, so equality is reported and not demanded. What is demanded: the
distance from the build machine's outputs stays below the quantization error itself (the distance of those outputs from the
float model's), or, for a model that has next to none, below a ten-thousandth of the largest output.
"""

from math import isfinite

import msgspec
import numpy as np

from edgekit_runtime.accuracy import difference
from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.errors import BundleError, InputError, SelfTestError
from edgekit_runtime.measurement import finite
from edgekit_runtime.model import Model

__all__ = ["GOLDEN", "SelfTest", "pack_golden", "selftest", "unpack_golden"]

GOLDEN = "golden.npz"
FLOAT_TOLERANCE = 1e-4


class SelfTest(msgspec.Struct, frozen=True):
    """What a self-test saw.

    Attributes:
        passed: Whether every golden example is within tolerance.
        examples: How many golden examples there are.
        bit_equal: Whether all outputs equal the build machine's bit for bit.
        max_abs_diff: Largest absolute difference from the build machine's outputs.
        rms_diff: Root mean square of that difference.
        tolerance: What `rms_diff` may be at the most.
        sqnr_db: Outputs against the *float* model's, here; ``None`` where they are equal.
        sqnr_db_build: The same on the build machine.
    """

    passed: bool
    examples: int
    bit_equal: bool
    max_abs_diff: float | None
    rms_diff: float | None
    tolerance: float
    sqnr_db: float | None
    sqnr_db_build: float | None

    def require(self, name: str) -> None:
        """Raises SelfTestError unless the test passed."""
        if not self.passed:
            far = "infinitely far (another shape, or NaN)" if self.rms_diff is None else f"{self.rms_diff:.3g} (rms) away"
            here, there = ("none" if value is None else f"{value:.1f} dB" for value in (self.sqnr_db, self.sqnr_db_build))
            raise SelfTestError(
                f"self-test of {name}: outputs are {far} from the build machine's, allowed are {self.tolerance:.3g}; SQNR "
                f"against float is {here} here, {there} there. Do not use this bundle here: deploy for this machine's target"
            )


Outputs = list[dict[str, np.ndarray]]


def pack_golden(inputs: Outputs, floats: Outputs, outputs: Outputs) -> dict[str, np.ndarray]:
    """Golden examples as named arrays: ``KIND/EXAMPLE/NAME`` with kinds ``input``, ``float`` and ``model``."""
    return {
        f"{kind}/{index}/{name}": np.asarray(array)
        for kind, examples in (("input", inputs), ("float", floats), ("model", outputs))
        for index, example in enumerate(examples)
        for name, array in example.items()
    }


def unpack_golden(arrays: dict[str, np.ndarray]) -> tuple[Outputs, Outputs, Outputs]:
    """Inputs, the float model's outputs and this model's outputs, an entry an example."""
    kinds: dict[str, dict[int, dict[str, np.ndarray]]] = {"input": {}, "float": {}, "model": {}}
    for key, array in arrays.items():
        kind, _, rest = key.partition("/")
        index, _, name = rest.partition("/")
        if kind not in kinds or not index.isdecimal() or not name:
            raise BundleError(f"read {GOLDEN}: unexpected entry {key!r}")
        kinds[kind].setdefault(int(index), {})[name] = array
    indices = sorted(kinds["input"])
    if not indices or any(sorted(examples) != indices for examples in kinds.values()):
        counts = ", ".join(f"{len(examples)} of {kind}" for kind, examples in kinds.items())
        raise BundleError(f"read {GOLDEN}: the examples do not belong together ({counts}); deploy it again")
    inputs, floats, outputs = ([examples[index] for index in indices] for examples in kinds.values())
    return inputs, floats, outputs


def selftest(model: Model) -> SelfTest:
    """Runs the golden examples of an open bundle.

    Raises:
        BundleError: `model` is a plain model file, which has no golden outputs, or they are those of another model.
    """
    if model.manifest is None:
        raise BundleError(f"self-test of {model.path}: a plain model file has no golden outputs; self-test a bundle")
    try:
        inputs, floats, built = unpack_golden(read_arrays(model.path / GOLDEN))
        here = [model(feed) for feed in inputs]
        there, quantization, against_float = difference(here, built), difference(built, floats), difference(here, floats)
    except InputError as error:
        raise BundleError(f"self-test of {model.path}: {GOLDEN} does not fit the model: {error}; deploy it again") from error
    # Where the build machine's own outputs were NaN or infinite, that distance would allow anything.
    quantized = quantization.rms_diff if isfinite(quantization.rms_diff) else 0.0
    tolerance = max(quantized, FLOAT_TOLERANCE * quantization.peak)
    return SelfTest(
        passed=bool(there.rms_diff <= tolerance),
        examples=len(inputs),
        bit_equal=there.max_abs_diff == 0.0,
        max_abs_diff=finite(there.max_abs_diff),
        rms_diff=finite(there.rms_diff),
        tolerance=tolerance,
        sqnr_db=finite(against_float.sqnr_db),
        sqnr_db_build=finite(quantization.sqnr_db),
    )
