"""What a model takes and gives: names, dtypes and shapes, and the check of a feed against them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from edgekit_runtime.errors import InputError, SessionError

__all__ = ["FeedCheck", "TensorSpec", "dtype_from_onnxruntime"]

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output.

    Attributes:
        name: Its name in the graph.
        dtype: numpy's name of its dtype, such as ``float32``.
        shape: One entry an axis: a size, or the name of an axis that may vary.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(str(axis) for axis in self.shape)}]"


def dtype_from_onnxruntime(kind: str) -> str:
    """Numpy's name for one of onnxruntime's type strings; types that are not plain tensors keep onnxruntime's words."""
    return DTYPES.get(kind, kind)


class FeedCheck:
    """Checks feeds against input specs, quickly: a call costs about a microsecond an input.

    Args:
        specs: The model's inputs.
        unranked: Names of inputs that take any number of axes.

    Raises:
        SessionError: An input is of a kind that no numpy array holds: bfloat16, a sequence, a map.
    """

    def __init__(self, specs: Sequence[TensorSpec], unranked: Collection[str] = ()) -> None:
        self.specs = tuple(specs)
        axes: dict[str, int] = {}
        for spec in specs:
            for label in {axis for axis in spec.shape if isinstance(axis, str)}:
                axes[label] = axes.get(label, 0) + 1
        plans = []
        for spec in specs:
            fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if isinstance(size, int))
            # A name that stands on one axis of one input only needs no comparison.
            tied = tuple(
                (axis, label)
                for axis, label in enumerate(spec.shape)
                if isinstance(label, str) and (axes[label] > 1 or spec.shape.count(label) > 1)
            )
            rank = None if spec.name in unranked else len(spec.shape)
            plans.append((spec.name, _numpy_dtype(spec), rank, fixed, tied))
        self._plans = tuple(plans)

    def check(self, feed: Mapping[str, Any]) -> None:
        """Raises InputError, naming the input, what it got and what it takes, where `feed` does not fit."""
        try:
            if len(feed) != len(self._plans):
                raise self._wrong_names(feed)
            sizes: dict[str, int] = {}
            ndarray = np.ndarray
            for name, dtype, rank, fixed, tied in self._plans:
                array = feed[name]
                # The quick test before the thorough one, twice: most arrays are plain ones with numpy's own dtype object.
                if type(array) is not ndarray and not isinstance(array, ndarray):
                    raise self._not_an_array(name, array)
                if array.dtype is not dtype and array.dtype != dtype:
                    raise self._wrong_dtype(name, array, dtype)
                shape = array.shape
                if rank is not None and len(shape) != rank:
                    raise self._wrong_shape(name, shape, f"{rank} axes, got {len(shape)}")
                for axis, size in fixed:
                    if shape[axis] != size:
                        raise self._wrong_shape(name, shape, f"axis {axis} of size {size}, got {shape[axis]}")
                for axis, label in tied:
                    if sizes.setdefault(label, shape[axis]) != shape[axis]:
                        problem = f"the same '{label}' on every axis called so, got {sizes[label]} and {shape[axis]}"
                        raise self._wrong_shape(name, shape, problem)
        except KeyError as error:
            raise self._wrong_names(feed) from error

    def gather(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """One feed from positional arrays (in the model's order) and named ones."""
        if not arrays:
            return dict(named)
        if len(arrays) > len(self.specs):
            raise InputError(f"model call: got {len(arrays)} arrays, the model takes {self._described()}")
        feed = {spec.name: array for spec, array in zip(self.specs, arrays, strict=False)}
        twice = feed.keys() & named.keys()
        if twice:
            raise InputError(f"model call: input {sorted(twice)[0]!r} was given by position and by name; give it once")
        return {**feed, **named}

    def _described(self) -> str:
        return "; ".join(str(spec) for spec in self.specs)

    def _spec(self, name: str) -> TensorSpec:
        return next(spec for spec in self.specs if spec.name == name)

    def _wrong_names(self, feed: Mapping[str, Any]) -> InputError:
        expected = [spec.name for spec in self.specs]
        missing = [name for name in expected if name not in feed]
        unknown = [name for name in feed if name not in expected]
        parts = [f"missing {missing}" if missing else "", f"unknown {unknown}" if unknown else ""]
        problem = " and ".join(part for part in parts if part)
        return InputError(f"model call: {problem}; the model takes {self._described()}")

    def _wrong_dtype(self, name: str, array: Any, dtype: np.dtype) -> InputError:
        return InputError(
            f"model call, input {name!r}: got dtype {array.dtype}, the model takes {self._spec(name)}; "
            f"convert it on purpose, with array.astype('{dtype}')"
        )

    def _wrong_shape(self, name: str, shape: tuple[int, ...], expected: str) -> InputError:
        return InputError(f"model call, input {name!r}: shape {list(shape)} does not fit {self._spec(name)}: expected {expected}")

    def _not_an_array(self, name: str, value: object) -> InputError:
        return InputError(
            f"model call, input {name!r}: got {type(value).__name__}, expected a numpy array for {self._spec(name)}; "
            "convert it with numpy.asarray(…, dtype)"
        )


def _numpy_dtype(spec: TensorSpec) -> np.dtype:
    try:
        return np.dtype(spec.dtype)
    except TypeError as error:
        raise SessionError(
            f"input {spec.name!r} is {spec.dtype}, which no numpy array holds; export the model with an input of another dtype"
        ) from error
