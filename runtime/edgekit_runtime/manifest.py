"""The manifest: what a bundle is, who measured it and what it weighs. The reader owns this contract.

The file is JSON. Its last field is the SHA-256 of everything before it, so that a damaged manifest is noticed as well as
a damaged model. That guards against accidents; it is not a signature.
"""

import hashlib
import re

import msgspec

from edgekit_runtime.certificate import Certificate
from edgekit_runtime.errors import BundleError
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.tensors import TensorSpec

__all__ = ["FORMAT", "MANIFEST", "Chosen", "FileEntry", "InputRange", "Manifest", "decode_manifest", "encode_manifest"]

FORMAT = 1
MANIFEST = "manifest.json"
# Letters that mean the same on every file system: no separators, no drives, no streams, no hidden files.
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
SEAL = re.compile(rb',\n  "sha256": "([0-9a-f]{64})"\n}\n\Z')


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of the bundle: its SHA-256 in hex and its size in bytes."""

    sha256: str
    size_bytes: int


class InputRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The values of one input that calibration saw; values far outside mean another preprocessing."""

    minimum: float
    maximum: float


class Chosen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The candidate inside.

    Attributes:
        name: Its name.
        verdict: ``int8``, ``mixed``, ``float16``, … or ``float32``.
        reason: Why it was chosen.
        certified: Whether the worst end of the metric's interval is inside the budget, too.
        measurement: Its figures.
        max_drop: The budget: what the metric may lose; ``None`` in bundles that do not tell.
        examples: Evaluation examples behind the metric.
        claims_not_made: What could not be measured, each with the reason.
    """

    name: str
    verdict: str
    reason: str
    certified: bool
    measurement: Measurement
    max_drop: float | None = None
    examples: int = 0
    claims_not_made: list[str] = []


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle's manifest.

    Attributes:
        format: Version of this contract; a reader refuses a newer one.
        name: The recipe's name.
        created: UTC time in ISO 8601.
        model: The file that onnxruntime opens.
        inputs: What the model takes.
        outputs: What it gives.
        target: Name of the target it was measured for.
        provider: The execution provider and its options.
        session: Session options.
        preprocessing: Range of each input as calibration saw it.
        isa: Instruction sets without which the figures do not hold, by architecture.
        onnxruntime: The lowest release that opens the model.
        chosen: The candidate inside.
        baseline: The float model's figures.
        tools: Versions of what made the bundle.
        files: Every other file of the bundle.
        certificates: What it was seen to do on other processors, one for each.
    """

    format: int
    name: str
    created: str
    model: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    target: str
    provider: Provider
    session: SessionConfig
    preprocessing: dict[str, InputRange]
    isa: dict[str, list[str]]
    onnxruntime: str
    chosen: Chosen
    baseline: Measurement
    tools: dict[str, str]
    files: dict[str, FileEntry]
    certificates: list[Certificate] = []


class Versioned(msgspec.Struct):
    """Just enough of any manifest, past or future, to tell its format."""

    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as sealed JSON text."""
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    body = body.removesuffix(b"\n}")
    return body + b',\n  "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Reads a manifest and checks its seal, its format and its file names.

    Args:
        data: The file's bytes.
        where: The bundle, for messages.

    Raises:
        BundleError: The manifest is damaged, too new, or names a file outside the bundle.
    """
    seal = SEAL.search(data)
    if seal is None:
        raise _newer_or_damaged(data, where)
    body = data[: seal.start()]
    if hashlib.sha256(body).hexdigest().encode() != seal.group(1):
        raise _newer_or_damaged(data, where)
    plain = body + b"\n}"
    try:
        version = msgspec.json.decode(plain, type=Versioned).format
        if version > FORMAT:
            raise _too_new(version, where)
        if version < 1:
            raise BundleError(f"open {where}: {MANIFEST} says format {version}; formats count from 1; deploy it again")
        manifest = msgspec.json.decode(plain, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"open {where}: {MANIFEST} does not hold to format {FORMAT}: {error}; deploy it again") from error
    for name in (*manifest.files, manifest.model):
        _check_name(name, where)
    if manifest.model not in manifest.files:
        raise BundleError(f"open {where}: {MANIFEST} names the model {manifest.model!r} but does not list it")
    return manifest


def _newer_or_damaged(data: bytes, where: str) -> BundleError:
    try:
        version = msgspec.json.decode(data, type=Versioned).format
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        version = FORMAT
    if version > FORMAT and SEAL.search(data) is None:
        return _too_new(version, where)
    return BundleError(f"open {where}: {MANIFEST} is damaged (its own SHA-256 does not fit); copy the bundle again")


def _too_new(version: int, where: str) -> BundleError:
    return BundleError(f"open {where}: the bundle has format {version}, this runtime reads up to {FORMAT}; upgrade edgekit-runtime")


def _check_name(name: str, where: str) -> None:
    if not FILE_NAME.fullmatch(name) or name.lower() == MANIFEST:
        raise BundleError(f"open {where}: {MANIFEST} names {name!r}, which is not a plain file name inside the bundle; refused")
