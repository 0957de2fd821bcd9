"""A damaged, incomplete, unsafe or newer bundle is refused, by name, before onnxruntime sees a byte."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import BundleError, EdgekitError, SessionConfig, load
from edgekit_runtime.bundle import is_bundle, read_manifest

FILES = ("manifest.json", "model.onnx", "golden.npz", "report.html")


@contextmanager
def refused(match: str) -> Iterator[None]:
    """A BundleError that says `match`, and onnxruntime is not called at all."""
    opened = AssertionError("onnxruntime was called before the bundle was checked")
    with patch("onnxruntime.InferenceSession", side_effect=opened), pytest.raises(BundleError, match=match):
        yield


def flipped(data: bytes, offset: int, bit: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ (1 << bit)]) + data[offset + 1 :]


def test_a_sound_bundle_opens(shared_bundle):
    model = load(shared_bundle)
    assert is_bundle(shared_bundle)
    assert model.manifest.name == "qdq"
    assert [str(spec) for spec in model.inputs] == ["x float32[batch, 4]"]


@pytest.mark.parametrize("name", FILES)
def test_bits_flipped_at_the_first_last_and_sampled_bytes(shared_bundle, replaced, name):
    data = (shared_bundle / name).read_bytes()
    offsets = sorted({0, 1, 2, len(data) // 2, len(data) - 3, len(data) - 2, len(data) - 1, *range(0, len(data), 29)})
    for offset in offsets:
        for bit in (0, 3, 7):
            with replaced(shared_bundle / name, flipped(data, offset, bit)), refused(name):
                load(shared_bundle)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_any_flipped_bit(shared_bundle, replaced, name, data):
    whole = (shared_bundle / name).read_bytes()
    offset = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    with replaced(shared_bundle / name, flipped(whole, offset, bit)), refused(name):
        load(shared_bundle)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
def test_truncated_or_extended(shared_bundle, replaced, name, data):
    whole = (shared_bundle / name).read_bytes()
    keep = data.draw(st.integers(0, len(whole)))
    tail = data.draw(st.binary(max_size=3))
    if whole[:keep] + tail == whole:
        tail += b"\n"
    with replaced(shared_bundle / name, whole[:keep] + tail), refused(name):
        load(shared_bundle)


@given(text=st.binary(max_size=200))
def test_any_bytes_for_a_manifest(shared_bundle, replaced, text):
    with replaced(shared_bundle / "manifest.json", text), refused(r"manifest\.json"):
        load(shared_bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file(bundle, name):
    (bundle / name).unlink()
    with refused(name):
        load(bundle)


@pytest.mark.parametrize("name", ["notes.txt", ".DS_Store", "model.onnx.data"])
def test_an_extra_file(bundle, name):
    (bundle / name).write_bytes(b"x")
    with refused(rf"{name} is not part of the bundle"):
        load(bundle)


def test_an_extra_directory(bundle):
    (bundle / "weights").mkdir()
    with refused("weights is not part of the bundle"):
        load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_link_instead_of_a_file(bundle, tmp_path, name):
    shutil.move(bundle / name, tmp_path / "elsewhere")
    (bundle / name).symlink_to(tmp_path / "elsewhere")
    with refused(rf"{name} is .*not a plain file"):
        load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_instead_of_a_file(bundle, name):
    (bundle / name).unlink()
    (bundle / name).mkdir()
    with refused(name):
        load(bundle)


def test_a_file_that_may_not_be_read(bundle, monkeypatch):
    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgekit_runtime.bundle.file_entry", refuse)
    with refused(r"cannot be read: Permission denied"):
        load(bundle)


NAMES = [
    "../secret",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\x",
    "C:x",
    "\\\\host\\share",
    "..",
    ".",
    "",
    ".hidden",
    "model.onnx:stream",
    "nul\0byte",
    "manifest.json",
    "Manifest.JSON",
    "x" * 300,
    "line\nbreak",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leaves_the_directory(bundle, seal_text, name):
    document = json.loads((bundle / "manifest.json").read_text())
    del document["sha256"]
    document["files"][name] = document["files"]["model.onnx"]
    (bundle / "manifest.json").write_bytes(seal_text(json.dumps(document, indent=2)))
    with refused("not a plain file name inside the bundle"):
        load(bundle)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_outside_the_directory(bundle, reseal, name):
    with refused("not a plain file name inside the bundle"):
        load(reseal(bundle, model=name))


def test_a_model_that_is_not_listed(bundle, reseal):
    with refused(r"names the model 'other\.onnx' but does not list it"):
        load(reseal(bundle, model="other.onnx"))


def test_a_newer_format_says_upgrade_even_with_fields_of_its_own(bundle, seal_text):
    (bundle / "manifest.json").write_bytes(seal_text(json.dumps({"format": 2, "signature": "…"}, indent=2)))
    with refused("format 2, this runtime reads up to 1; upgrade edgekit-runtime"):
        load(bundle)


def test_a_newer_format_that_is_sealed_in_another_way_says_upgrade(bundle):
    (bundle / "manifest.json").write_text(json.dumps({"format": 3, "seal": "sha3"}))
    with refused("upgrade edgekit-runtime"):
        load(bundle)


@pytest.mark.parametrize("version", [0, -1])
def test_a_format_that_never_was(bundle, reseal, version):
    with refused("formats count from 1"):
        load(reseal(bundle, format=version))


def test_a_manifest_from_before_there_were_more_session_options(bundle, seal_text):
    document = json.loads((bundle / "manifest.json").read_text())
    del document["sha256"]
    for later in ("spinning", "memory_arena", "blocked_layout"):
        del document["session"][later]
    (bundle / "manifest.json").write_bytes(seal_text(json.dumps(document, indent=2)))
    assert load(bundle).session_config == SessionConfig()


def test_an_unknown_field(bundle, seal_text):
    document = json.loads((bundle / "manifest.json").read_text())
    del document["sha256"]
    (bundle / "manifest.json").write_bytes(seal_text(json.dumps({**document, "extra": 1}, indent=2)))
    with refused(r"manifest\.json does not hold to format 1: .*extra"):
        load(bundle)


def test_what_is_no_bundle_at_all(tmp_path):
    with refused("does not exist"):
        load(tmp_path / "nothing.edge")
    with refused(r"there is no manifest\.json in it"):
        load(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with refused("is a file"):
        read_manifest(tmp_path / "file")
    with pytest.raises(BundleError, match="it cannot be reached: File name too long"):
        load(tmp_path / ("x" * 5000))
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    with refused("does not exist"):
        load(tmp_path / "broken")


def test_external_data_outside_the_bundle_is_not_read(tmp_path, models, pack, reseal):
    """A model whose weights lie at ../secret.bin, in a bundle whose hashes all fit."""
    bundle = pack(tmp_path / "tampered.edge")
    np.arange(4, dtype=np.float32).tofile(tmp_path / "secret.bin")
    shutil.copy(models / "outside.onnx", bundle / "model.onnx")
    with refused(r"model\.onnx keeps weights in '\.\./secret\.bin', not a file of the bundle; refused"):
        load(reseal(bundle))


def test_a_bundle_whose_model_is_another_one(bundle, models, reseal):
    shutil.copy(models / "three_inputs.onnx", bundle / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx takes a float32\[2, 8\]; .* the manifest promises x float32"):
        load(reseal(bundle))


def test_a_bundle_for_other_instruction_sets(bundle, reseal):
    everywhere = {name: ["hyper"] for name in ("x86_64", "aarch64", "armv7l")}
    with refused("static-u8s8 needs hyper"):
        load(reseal(bundle, isa=everywhere))
    assert load(bundle, check_isa=False).manifest.isa == everywhere


def test_a_bundle_for_a_later_onnxruntime(bundle, reseal):
    with refused(r"pip install 'onnxruntime>=99\.1'"):
        load(reseal(bundle, onnxruntime="99.1"))


def test_a_link_to_the_whole_bundle_is_fine(bundle, tmp_path):
    (tmp_path / "current").symlink_to(bundle, target_is_directory=True)
    assert load(str(tmp_path / "current")).manifest.name == "qdq"


def test_every_refusal_is_an_edgekit_error():
    assert issubclass(BundleError, EdgekitError)


def test_paths_may_be_text(shared_bundle):
    assert load(str(shared_bundle)).path == Path(shared_bundle)
