"""Measuring one model on this machine: latency, cold start, peak memory, size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgekit_runtime.arrays import read_arrays
from edgekit_runtime.bundle import is_bundle
from edgekit_runtime.errors import InputError
from edgekit_runtime.fresh_process import run_in_fresh_process
from edgekit_runtime.model import Model
from edgekit_runtime.selftest import GOLDEN, unpack_golden
from edgekit_runtime.session import Provider
from edgekit_runtime.tensors import TensorSpec
from edgekit_runtime.timing import interleave

__all__ = ["Benchmark", "benchmark", "example_feed", "example_of", "size_bytes"]


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """One model's figures on this machine.

    Attributes:
        latency_ms: Median of one call.
        latency_p99_ms: 99th percentile.
        calls: How many calls were timed.
        cold_start_ms: Opening to first output in a fresh process, imports excluded, hash check included.
        peak_rss_bytes: Peak resident memory of that process.
        size_bytes: The model's own files.
        provider: The execution provider it ran on.
        threads: Intra-op threads.
    """

    latency_ms: float
    latency_p99_ms: float
    calls: int
    cold_start_ms: float
    peak_rss_bytes: int | None
    size_bytes: int
    provider: str
    threads: int


def benchmark(model: Model, feed: Mapping[str, np.ndarray], rounds: int = 25) -> Benchmark:
    """Times `model` on `feed` in this process, and opens it once more in a fresh one."""
    feed = dict(feed)
    timings = interleave({"model": lambda: model(feed)}, rounds=rounds)["model"]
    file = model_file(model)
    config = msgspec.structs.replace(model.session_config, threads=model.threads)
    fresh = run_in_fresh_process(file, feed, Provider(model.provider, model.provider_options), config)
    return Benchmark(
        latency_ms=timings.median_ms,
        latency_p99_ms=timings.p99_ms,
        calls=timings.calls_ms.size,
        cold_start_ms=fresh.cold_start_ms,
        peak_rss_bytes=fresh.peak_rss_bytes,
        size_bytes=size_bytes(file),
        provider=model.provider,
        threads=model.threads,
    )


def model_file(model: Model) -> Path:
    """The file that onnxruntime opened."""
    return model.path / model.manifest.model if model.manifest else model.path


def size_bytes(file: Path) -> int:
    """Bytes of a model file with the external data beside it (``NAME.onnx.data``)."""
    external = file.with_name(f"{file.name}.data")
    return file.stat().st_size + (external.stat().st_size if external.exists() else 0)


def example_feed(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    """A feed to time with: the first golden input of a bundle, else random arrays with every free axis of size 1.

    Raises:
        InputError: An input is of a dtype that has no sensible random values.
    """
    return example_of(model.path, model.inputs, seed)


def example_of(path: Path, inputs: Sequence[TensorSpec], seed: int = 0) -> dict[str, np.ndarray]:
    """As `example_feed`, of a bundle or a model file that may be open elsewhere.

    Args:
        path: The bundle or the model file.
        inputs: What it takes.
        seed: Seed of the random arrays.

    Raises:
        InputError: An input is of a dtype that has no sensible random values.
    """
    if is_bundle(path):
        return unpack_golden(read_arrays(path / GOLDEN))[0][0]
    draw = np.random.default_rng(seed)
    feed = {}
    for spec in inputs:
        shape = tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape)
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            feed[spec.name] = draw.standard_normal(shape).astype(dtype)
        elif dtype.kind in "iub":
            feed[spec.name] = np.ones(shape, dtype)
        else:
            raise InputError(f"example for {spec}: no random values for this dtype; give a feed with --input FILE.npz")
    return feed
