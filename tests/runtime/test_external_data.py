"""Where a model says that its weights lie is found wherever ONNX lets it be said."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import BundleError, load
from edgekit_runtime.external_data import external_locations


@pytest.mark.parametrize(
    ("name", "locations"),
    [
        ("qdq", set()),
        ("kinds", set()),
        ("outside", {"../secret.bin"}),
        ("beside", {"model.onnx.data"}),
        ("nested", {"in_graph.bin", "in_branch.bin", "in_function.bin", "in_sparse.bin"}),
    ],
)
def test_locations(models, name, locations):
    assert external_locations(models / f"{name}.onnx") == locations


def test_the_word_alone_is_no_location(tmp_path, models):
    """A name in the graph may be any word; the file then has to be walked, and nothing is found."""
    data = (models / "two_inputs.onnx").read_bytes()
    (tmp_path / "named.onnx").write_bytes(data.replace(b"two_inputs", b"location_x"))
    assert external_locations(tmp_path / "named.onnx") == set()


def test_external_data_of_the_bundle_itself_is_fine(tmp_path, models, pack, reseal):
    bundle = pack(tmp_path / "large.edge")
    (bundle / "model.onnx").write_bytes((models / "beside.onnx").read_bytes())
    np.arange(4, dtype=np.float32).tofile(bundle / "model.onnx.data")
    x = np.ones((2, 4), np.float32)
    with pytest.raises(BundleError, match="manifest promises"):  # the data was found: only the outputs are another model's
        load(reseal(bundle))
    plain = load(bundle / "model.onnx")
    load(reseal(bundle, outputs=list(plain.outputs)))
    assert plain(x)["y"].tolist() == [[1.0, 2.0, 3.0, 4.0]] * 2
    (bundle / "model.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"keeps weights in 'model\.onnx\.data', not a file of the bundle"):
        load(reseal(bundle))


@given(data=st.data())
def test_damage_is_a_bundle_error_or_harmless(tmp_path_factory, models, data):
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    whole = bytearray((models / "nested.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    with suppress(BundleError):
        external_locations(path)


@pytest.mark.parametrize("tail", [b"\x3a", b"\x3a\x05ab", b"\x3b", b"\x08" + b"\xff" * 12, b"\x09abc"])
def test_broken_messages_that_mention_a_location(tmp_path, tail):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x12\x08location" + tail)
    with pytest.raises(BundleError, match=r"read broken\.onnx: it is not a sound ONNX file"):
        external_locations(path)
