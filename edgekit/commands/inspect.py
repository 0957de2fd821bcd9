"""``edgekit inspect``: what is in a bundle or an ``.onnx`` file, and what onnxruntime makes of it on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edgekit.inspection.model_file import read_model, specs
from edgekit.inspection.notes import Note, note_graph, note_optimized
from edgekit.inspection.optimized_graph import OptimizedGraph, optimize
from edgekit.inspection.quantization import QuantizationFound, find_quantization
from edgekit.inspection.weights import Weights, weigh
from edgekit.inspection.wiring import Wiring, count_operators
from edgekit_runtime.bundle import check_files, is_bundle, read_manifest
from edgekit_runtime.errors import SessionError
from edgekit_runtime.manifest import Manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["BundleSummary", "Inspection", "inspect"]


class BundleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle's manifest says.

    Attributes:
        name: The recipe's name.
        created: UTC time in ISO 8601.
        target: Name of the target it was measured for.
        provider: The execution provider that it asks for.
        verdict: ``int8``, ``mixed``, ``float16``, … or ``float32``.
        chosen: Name of the candidate inside.
        reason: Why it was chosen.
        certified: Whether its accuracy is certified.
        measurement: Its figures on the machine that deployed it.
        isa: Instruction sets without which the figures do not hold, by architecture.
        onnxruntime: The lowest release that opens it.
        hashes: Result of the check of its files.
    """

    name: str
    created: str
    target: str
    provider: str
    verdict: str
    chosen: str
    reason: str
    certified: bool
    measurement: Measurement
    isa: dict[str, list[str]]
    onnxruntime: str
    hashes: str


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a model.

    Attributes:
        path: What was inspected.
        model: The model file's name.
        size_bytes: The model file and the files of its weights.
        ir_version: Version of the ONNX format.
        opsets: Versions of the operator sets, by domain; ONNX's own is ``ai.onnx``.
        producer: What wrote the file, with its version.
        inputs: What it takes, as ``name dtype[axes]``.
        outputs: What it gives.
        operators: Operators as stored, with counts.
        weights: Stored tensors by dtype.
        quantization: What is quantized, and how.
        optimized: The graph that onnxruntime runs here; ``None`` where it refuses the model (a note says why).
        notes: What is worth knowing, worst first.
        bundle: The manifest in short; ``None`` for a plain model file.
    """

    path: str
    model: str
    size_bytes: int
    ir_version: int
    opsets: dict[str, int]
    producer: str
    inputs: list[str]
    outputs: list[str]
    operators: dict[str, int]
    weights: Weights
    quantization: QuantizationFound
    optimized: OptimizedGraph | None
    notes: list[Note]
    bundle: BundleSummary | None

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit inspect --json``."""
        return dict(msgspec.json.decode(msgspec.json.encode(self)))


def inspect(path: str | Path) -> Inspection:
    """Looks into a bundle or an ``.onnx`` file, without running it.

    Args:
        path: A ``NAME.edge`` directory, whose files are checked against its manifest first, or an ``.onnx`` file.

    Raises:
        BundleError: The bundle is damaged, incomplete, unsafe or too new.
        GraphError: The model file is missing, damaged, or not an ONNX model.
    """
    path = Path(path)
    bundle, provider, config = None, Provider(), SessionConfig()
    file = path
    if is_bundle(path):
        manifest = read_manifest(path)
        check_files(path, manifest)
        bundle = _summary(manifest)
        provider, config = manifest.provider, manifest.session
        file = path / manifest.model
    stored = read_model(file)
    wiring, weights = Wiring(stored.proto), weigh(stored.proto)
    found = find_quantization(wiring)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in stored.proto.opset_import}
    notes = note_graph(wiring, weights, found, opsets.get("ai.onnx", 0))
    try:
        optimized = optimize(file, provider, config)
        notes += note_optimized(optimized, found)
    except SessionError as error:
        optimized = None
        notes.append(Note("onnxruntime-refuses", "problem", str(error)))
    return Inspection(
        path=str(path),
        model=file.name,
        size_bytes=stored.size_bytes,
        ir_version=stored.proto.ir_version,
        opsets=opsets,
        producer=f"{stored.proto.producer_name} {stored.proto.producer_version}".strip() or "unknown",
        inputs=specs([value for value in stored.proto.graph.input if value.name in wiring.inputs]),
        outputs=specs(list(stored.proto.graph.output)),
        operators=count_operators(wiring.nodes),
        weights=weights,
        quantization=found,
        optimized=optimized,
        notes=sorted(notes, key=lambda note: ("problem", "warning", "info").index(note.severity)),
        bundle=bundle,
    )


def _summary(manifest: Manifest) -> BundleSummary:
    return BundleSummary(
        name=manifest.name,
        created=manifest.created,
        target=manifest.target,
        provider=manifest.provider.name,
        verdict=manifest.chosen.verdict,
        chosen=manifest.chosen.name,
        reason=manifest.chosen.reason,
        certified=manifest.chosen.certified,
        measurement=manifest.chosen.measurement,
        isa=manifest.isa,
        onnxruntime=manifest.onnxruntime,
        hashes=f"all {len(manifest.files)} files are as the manifest promises",
    )
