"""Whether a bundle fits a target: what it was deployed for, what it needs of the processor and of onnxruntime, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.checkup.check import Check
from edgekit.checkup.known_bad import release
from edgekit.checkup.wheel_facts import wheel_facts

if TYPE_CHECKING:
    from edgekit.labs.emulated.boards import Board
    from edgekit.target import Target
    from edgekit_runtime.manifest import Manifest

__all__ = ["bundle_checks", "memory_checks"]

MB = 1e6
# Peak memory of fresh processes that opened networks of 0.5 to 18 MB and ran them on x86-64: 67 MB with next to no model, and 2 to
# 2.6 times the model's files more. Large activations, as of high resolutions or long sequences, come on top.
EMPTY_PROCESS_BYTES = 70e6
BYTES_PER_BYTE = 3.0
EXTREME = -128


def bundle_checks(path: Path, manifest: Manifest, target: Target, isa: Sequence[str], architecture: str) -> list[Check]:
    """What of a bundle does not fit a target, or does.

    Args:
        path: The bundle; its files were checked.
        manifest: Its manifest.
        target: The target.
        isa: Instruction sets that the target has.
        architecture: The target's architecture.
    """
    return [
        *_deployed_for(path, manifest, target),
        *_isa(path, manifest, isa, architecture),
        *_onnxruntime(manifest, architecture),
        *_provider(manifest, target),
        *_certified(path, manifest, target),
        *_extreme_weights(path / manifest.model, isa, architecture),
    ]


def memory_checks(target: str, board: Board | None, path: Path | None, manifest: Manifest | None) -> list[Check]:
    """Whether memory suffices on the smallest board that is sold under the target's name; none where that is not known."""
    if board is None or not wheel_facts().systems_of(target):
        return []
    what = f"the smallest {target} has {board.memory_bytes / MB:,.0f} MB of memory"
    if path is None or manifest is None:
        return [
            Check(
                "ok",
                what,
                f"Python, numpy and onnxruntime take about {EMPTY_PROCESS_BYTES / MB:.0f} MB before any model (seen on x86-64)",
                "give --bundle to see whether a model fits",
            )
        ]
    needed, how = _needed_memory(target, path, manifest)
    share = needed / board.memory_bytes
    told = f"{path.name} takes {needed / MB:,.0f} MB of {board.memory_bytes / MB:,.0f} MB on the smallest {target}"
    if share <= 0.5:
        return [Check("ok", told, how)]
    if share <= 1.0:
        return [
            Check(
                "warning",
                told,
                f"{how}; the system and other programs need memory, too",
                f"take a board with more of it, or edgekit deploy RECIPE --target {target} --optimize memory",
            )
        ]
    return [
        Check(
            "problem",
            told,
            how,
            f"take a board with more memory, a smaller model, or edgekit deploy RECIPE --target {target} --optimize memory",
        )
    ]


def _needed_memory(target: str, path: Path, manifest: Manifest) -> tuple[float, str]:
    """Bytes, and how they are known."""
    seen = next((row for row in manifest.certificates if row.isa == target and row.peak_rss_bytes), None)
    if seen is not None and seen.peak_rss_bytes:
        return seen.peak_rss_bytes, "the certificate's peak under emulation, the emulator's own memory included: an upper bound"
    measured = manifest.chosen.measurement.peak_rss_bytes
    if measured:
        return measured, f"the peak of a fresh process, measured when it was deployed for {manifest.target}, not there"
    size = sum(entry.size_bytes for name, entry in manifest.files.items() if name.startswith(manifest.model))
    return (
        EMPTY_PROCESS_BYTES + BYTES_PER_BYTE * size,
        f"an estimate: {EMPTY_PROCESS_BYTES / MB:.0f} MB for Python, numpy and onnxruntime, and {BYTES_PER_BYTE:g} times the "
        f"model's {size / MB:.1f} MB; large activations come on top, and edgekit bench {path} --on {target} shows an upper bound",
    )


def _deployed_for(path: Path, manifest: Manifest, target: Target) -> list[Check]:
    if manifest.target == target.name:
        return [
            Check("ok", f"{path.name} was deployed for {target.name}", f"it is {manifest.chosen.name} ({manifest.chosen.verdict})")
        ]
    return [
        Check(
            "warning",
            f"{path.name} was deployed for {manifest.target}, not for {target.name}",
            f"{manifest.chosen.name} was chosen by figures of another processor, where other kernels run and other graphs fuse",
            f"edgekit deploy RECIPE --target {target.name}; or see what it does there: edgekit certify {path} --isa {target.name}",
        )
    ]


def _isa(path: Path, manifest: Manifest, isa: Sequence[str], architecture: str) -> list[Check]:
    needed = manifest.isa.get(architecture, [])
    missing = [name for name in needed if name not in isa]
    if missing:
        return [
            Check(
                "problem",
                f"{path.name} needs {', '.join(missing)}, which the target lacks",
                "without it its figures do not hold, and the runtime refuses to open it",
                "deploy it for this target",
            )
        ]
    named = f"it needs {', '.join(needed)}" if needed else f"it names no instruction sets of {architecture} that it depends on"
    return [
        Check("ok", f"{path.name} opens on this processor", f"{named}; the target has {', '.join(isa) or 'none that are known'}")
    ]


def _onnxruntime(manifest: Manifest, architecture: str) -> list[Check]:
    newest = max(
        (
            found.packages["onnxruntime"].version
            for found in wheel_facts().wheels
            if architecture in found.architectures and "onnxruntime" in found.packages
        ),
        key=release,
        default=None,
    )
    if newest is None:
        return [
            Check("ok", f"it needs onnxruntime {manifest.onnxruntime} or newer", "which releases the target has is not known here")
        ]
    if release(newest) < release(manifest.onnxruntime):
        return [
            Check(
                "problem",
                f"it needs onnxruntime {manifest.onnxruntime} or newer",
                f"the newest wheel for {architecture} that was tested is {newest} ({wheel_facts().tested})",
                "ask with --online whether there is a newer one by now",
            )
        ]
    return [Check("ok", f"it needs onnxruntime {manifest.onnxruntime} or newer", f"there is {newest} for {architecture}")]


def _provider(manifest: Manifest, target: Target) -> list[Check]:
    if manifest.provider.name == target.provider.name:
        return []
    return [
        Check(
            "warning",
            f"it was measured on {manifest.provider.name}, the target's provider is {target.provider.name}",
            "another provider computes with other kernels, or is not installed there at all",
            f"edgekit deploy RECIPE --target {target.name}",
        )
    ]


def _certified(path: Path, manifest: Manifest, target: Target) -> list[Check]:
    row = next((row for row in manifest.certificates if row.isa == target.name), None)
    if row is None:
        return []
    if row.status == "failed":
        return [
            Check(
                "problem",
                f"its certificate for {target.name} says failed",
                row.reason,
                f"edgekit deploy RECIPE --target {target.name}; edgekit inspect {path} --why",
            )
        ]
    return [Check("ok", f"its certificate for {target.name} says {row.status}", row.reason)]


def _extreme_weights(model: Path, isa: Sequence[str], architecture: str) -> list[Check]:
    """Signed 8-bit weights of −128 on ARM without dot products: onnxruntime's sums of two products overflow in 16 bits there."""
    if architecture != "aarch64" or "dotprod" in isa or not isa or model.suffix != ".onnx":
        return []
    import numpy as np
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(model, load_external_data=False).graph
    weights = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1]
    found = [one.name for one in weights if (np.asarray(numpy_helper.to_array(one, str(model.parent))) == EXTREME).any()]
    if found:
        return [
            Check(
                "warning",
                f"{len(found)} of its int8 weights hold {EXTREME}, such as {found[0]}",
                f"where an input is {EXTREME}, too, onnxruntime's kernels for ARM without dot products can give wrong sums "
                "(microsoft/onnxruntime#31573)",
                "quantize with edgekit, whose signed weights end at -127; or see what it does there with edgekit certify",
            )
        ]
    if weights:
        what = f"none of its int8 weights holds {EXTREME}"
        return [
            Check("ok", what, "so onnxruntime's sums cannot overflow on ARM without dot products (microsoft/onnxruntime#31573)")
        ]
    return []
