"""Pack: a chosen model becomes a bundle."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from edgekit_export.swap import check_destination, swap_in, translated_write_errors
from edgekit_runtime.arrays import write_arrays
from edgekit_runtime.bundle import file_entry
from edgekit_runtime.manifest import FORMAT, MANIFEST, Chosen, InputRange, Manifest, encode_manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.selftest import GOLDEN, pack_golden
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.tensors import TensorSpec

__all__ = ["Contents", "lowest_onnxruntime", "pack"]

MODEL = "model.onnx"
REPORT = "report.html"
# First onnxruntime that opens an operator set (onnxruntime's compatibility table), none older than our own floor.
LOWEST = "1.22"
FIRST_RELEASE = {23: "1.23", 24: "1.24", 25: "1.25"}

Examples = list[dict[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that goes into a bundle.

    Attributes:
        name: The recipe's name.
        model: The model file; external data lies beside it as ``NAME.data``.
        inputs: What the model takes.
        outputs: What it gives.
        target: The target's name.
        provider: Execution provider.
        session: Session options.
        preprocessing: Range of each input as calibration saw it.
        isa: Instruction sets without which the figures do not hold.
        chosen: The candidate.
        baseline: The float model's figures.
        tools: Versions of what made it.
        golden_inputs: Example inputs.
        golden_floats: The float model's outputs on them.
        golden_outputs: This model's outputs on them.
        report: The report as HTML.
    """

    name: str
    model: Path
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    target: str
    provider: Provider
    session: SessionConfig
    preprocessing: Mapping[str, InputRange]
    isa: Mapping[str, list[str]]
    chosen: Chosen
    baseline: Measurement
    tools: Mapping[str, str]
    golden_inputs: Examples
    golden_floats: Examples
    golden_outputs: Examples
    report: str


def pack(contents: Contents, folder: Path, out: Path) -> Manifest:
    """Writes the bundle in `folder`, an empty directory beside `out`, and swaps it in at `out`.

    Raises:
        OutputError: It could not be written; what stood at `out` is untouched.
    """
    check_destination(out)
    with translated_write_errors(out):
        folder.mkdir(exist_ok=True)
        _copy_model(contents.model, folder)
        golden = pack_golden(contents.golden_inputs, contents.golden_floats, contents.golden_outputs)
        write_arrays(folder / GOLDEN, golden)
        (folder / REPORT).write_text(contents.report, encoding="utf-8")
        manifest = Manifest(
            format=FORMAT,
            name=contents.name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model=MODEL,
            inputs=contents.inputs,
            outputs=contents.outputs,
            target=contents.target,
            provider=contents.provider,
            session=contents.session,
            preprocessing=dict(contents.preprocessing),
            isa={name: list(features) for name, features in contents.isa.items()},
            onnxruntime=lowest_onnxruntime(contents.model),
            chosen=contents.chosen,
            baseline=contents.baseline,
            tools=dict(contents.tools),
            files={file.name: file_entry(file) for file in sorted(folder.iterdir())},
        )
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    swap_in(folder, out)
    return manifest


def _copy_model(model: Path, folder: Path) -> None:
    """Copies a model file; where its weights lie beside it, they get the name that belongs to its new one."""
    if model.with_name(f"{model.name}.data").exists():
        ir.save(ir.load(model), folder / MODEL, external_data=f"{MODEL}.data")
    else:
        shutil.copyfile(model, folder / MODEL)


def lowest_onnxruntime(model: Path) -> str:
    """The lowest onnxruntime release that opens a model file."""
    proto = onnx.load(model, load_external_data=False)
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    return FIRST_RELEASE.get(opset, LOWEST if opset < min(FIRST_RELEASE) else FIRST_RELEASE[max(FIRST_RELEASE)])
