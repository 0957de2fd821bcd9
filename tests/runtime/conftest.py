"""Real bundles made from the small models beside this file; onnx and torch are not needed."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgekit_runtime.arrays import read_arrays, write_arrays
from edgekit_runtime.bundle import file_entry
from edgekit_runtime.manifest import MANIFEST, Chosen, InputRange, Manifest, decode_manifest, encode_manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.model import load
from edgekit_runtime.selftest import GOLDEN, pack_golden
from edgekit_runtime.session import Provider, SessionConfig

MODELS = Path(__file__).parent / "models"


def feeds_of(name: str, count: int = 3) -> list[dict[str, np.ndarray]]:
    draw = np.random.default_rng(7)
    feeds = []
    for index in range(count):
        batch = index + 1
        feed: dict[str, np.ndarray] = {"x": draw.standard_normal((batch, 4)).astype(np.float32)}
        if name == "two_inputs":
            feed["ids"] = draw.integers(0, 5, batch)
        feeds.append(feed)
    return feeds


def pack(folder: Path, name: str = "qdq", **changes: Any) -> Path:
    """A bundle of the model `name` at `folder`; `changes` are other values of the manifest's fields."""
    folder.mkdir(parents=True)
    shutil.copy(MODELS / f"{name}.onnx", folder / "model.onnx")
    model = load(folder / "model.onnx")
    feeds = feeds_of(name)
    outputs = [model(feed) for feed in feeds]
    draw = np.random.default_rng(8)
    floats = [
        {key: array + draw.normal(0, 0.01, array.shape).astype(array.dtype) for key, array in output.items()} for output in outputs
    ]
    write_arrays(folder / GOLDEN, pack_golden(feeds, floats, outputs))
    (folder / "report.html").write_text("<!doctype html><title>report</title><p>Fits.</p>\n")
    fields: dict[str, Any] = {
        "format": 1,
        "name": name.replace("_", "-"),
        "created": "2026-01-02T03:04:05Z",
        "model": "model.onnx",
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
        "target": "cpu-x64",
        "provider": Provider(),
        "session": SessionConfig(),
        "preprocessing": {"x": InputRange(-3.0, 3.0)},
        "isa": {},
        "onnxruntime": "1.22",
        "chosen": Chosen(
            "static-u8s8", "int8", "the fastest inside the budget", True, Measurement(metric=0.9, speedup_ci=(1.1, 1.3))
        ),
        "baseline": Measurement(metric=0.91),
        "tools": {"edgekit": "0.1.0"},
        "files": {entry.name: file_entry(entry) for entry in sorted(folder.iterdir())},
    }
    (folder / MANIFEST).write_bytes(encode_manifest(Manifest(**{**fields, **changes})))
    return folder


def reseal(folder: Path, **changes: Any) -> Path:
    """Makes the manifest fit the files that are in `folder` now, as somebody who tampers on purpose would."""
    manifest = decode_manifest((folder / MANIFEST).read_bytes(), str(folder))
    files = {entry.name: file_entry(entry) for entry in sorted(folder.iterdir()) if entry.name != MANIFEST and entry.is_file()}
    (folder / MANIFEST).write_bytes(encode_manifest(msgspec.structs.replace(manifest, **{"files": files, **changes})))
    return folder


def seal_text(text: str) -> bytes:
    """A manifest of any text, sealed as the real ones are."""
    body = text.encode().removesuffix(b"\n}")
    return body + b',\n  "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def change_golden(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Path:
    """Rewrites the golden arrays and seals the bundle again."""
    write_arrays(folder / GOLDEN, change(read_arrays(folder / GOLDEN)))
    return reseal(folder)


@contextmanager
def replaced(path: Path, data: bytes) -> Iterator[Path]:
    """`path` with other bytes for a while."""
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.write_bytes(before)


# conftest.py cannot be imported in pytest's importlib mode, so that tests get these functions as fixtures.
@pytest.fixture(scope="session")
def models() -> Path:
    return MODELS


@pytest.fixture(scope="session", name="pack")
def pack_fixture() -> Callable[..., Path]:
    return pack


@pytest.fixture(scope="session", name="reseal")
def reseal_fixture() -> Callable[..., Path]:
    return reseal


@pytest.fixture(scope="session", name="seal_text")
def seal_text_fixture() -> Callable[[str], bytes]:
    return seal_text


@pytest.fixture(scope="session", name="change_golden")
def change_golden_fixture() -> Callable[..., Path]:
    return change_golden


@pytest.fixture(scope="session", name="replaced")
def replaced_fixture() -> Callable[[Path, bytes], AbstractContextManager[Path]]:
    return replaced


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle to damage."""
    return pack(tmp_path / "small.edge")


@pytest.fixture(scope="session")
def shared_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for tests that put back what they change, or change nothing."""
    return pack(tmp_path_factory.mktemp("shared") / "small.edge")
