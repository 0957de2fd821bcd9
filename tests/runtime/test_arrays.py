"""Arrays in .npz files: whole or absent, never pickled, and the ones that numpy itself reads."""

import io
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgekit_runtime import InputError
from edgekit_runtime.arrays import read_arrays, write_arrays
from edgekit_runtime.errors import OutputError

PLAIN = npst.arrays(
    st.one_of(npst.floating_dtypes(), npst.integer_dtypes(), npst.boolean_dtypes(), npst.unicode_string_dtypes(max_len=4)),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@given(arrays=st.dictionaries(st.text("abz/.-0", min_size=1, max_size=6), PLAIN, max_size=3))
def test_round_trip(tmp_path_factory, arrays):
    path = tmp_path_factory.getbasetemp() / "round.npz"
    write_arrays(path, arrays)
    back = read_arrays(path)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("name", ["file", "allow_pickle", "self", "args", "x.npy", "input/0/x"])
def test_names_that_numpys_savez_takes_for_its_own(tmp_path, name):
    write_arrays(tmp_path / "a.npz", {name: np.arange(3)})
    assert read_arrays(tmp_path / "a.npz")[name].tolist() == [0, 1, 2]


def test_numpy_reads_what_is_written_and_the_other_way(tmp_path):
    write_arrays(tmp_path / "ours.npz", {"x": np.eye(2)})
    with np.load(tmp_path / "ours.npz") as archive:
        np.testing.assert_array_equal(archive["x"], np.eye(2))
    np.savez(tmp_path / "theirs.npz", x=np.eye(2))
    np.testing.assert_array_equal(read_arrays(tmp_path / "theirs.npz")["x"], np.eye(2))


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], object))
    with pytest.raises(InputError, match="Object arrays cannot be loaded"):
        read_arrays(tmp_path / "pickled.npz")
    (tmp_path / "bare.pkl").write_bytes(b"\x80\x04N.")
    with pytest.raises(InputError, match=r"not an \.npz file"):
        read_arrays(tmp_path / "bare.pkl")
    with pytest.raises(InputError, match="'x' holds Python objects"):
        write_arrays(tmp_path / "a.npz", {"x": np.array([{}], object)})
    assert not (tmp_path / "a.npz").exists()


def test_a_bare_array_is_refused_with_advice(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(2))
    with pytest.raises(InputError, match=r"save with numpy\.savez\(path, input_name=array\)"):
        read_arrays(tmp_path / "a.npy")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"read .*none\.npz: .*No such file"):
        read_arrays(tmp_path / "none.npz")


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def header(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(zipped(x=b"not an array"), id="no array inside"),
        pytest.param(zipped(x=header((3,)) + b"12345678"), id="too short"),
        pytest.param(zipped(x=header((10**15,))), id="claims a petabyte"),
        pytest.param(zipped(x=header((10**30,))), id="claims more than fits an index"),
        pytest.param(zipped(x=header((-3,))), id="negative"),
    ],
)
def test_damaged_files(tmp_path, data):
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.npz: not an \.npz file of plain arrays"):
        read_arrays(tmp_path / "a.npz")


@given(data=st.data())
def test_any_damage_is_an_input_error_or_harmless(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    write_arrays(path, {"x": np.arange(50.0), "y": np.zeros(3, np.int8)})
    whole = path.read_bytes()
    offset = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:offset] + bytes([data.draw(st.integers(0, 255))]) + whole[offset + 1 :])
    with suppress(InputError):
        read_arrays(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_arrays(path, {"x": np.arange(3)})
    before = path.read_bytes()
    write = np.lib.format.write_array

    def full_disk(file, array, **options):
        write(file, array, **options)
        file.flush()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    with pytest.raises(OutputError, match=r"write .*a\.npz: No space left on device"):
        write_arrays(path, {"x": np.arange(9)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/a.npz", "file/a.npz", "directory", "x" * 300])
def test_where_nothing_can_be_written(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OutputError, match="write "):
        write_arrays(tmp_path / name, {"x": np.arange(3)})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "file"]
