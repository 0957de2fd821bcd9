"""The ledger: what was measured is not measured again, and a search that was killed goes on by the same clock."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.search.context import digest
from edgekit.search.ledger import Ledger, prune


class Figure(msgspec.Struct, frozen=True):
    value: float
    note: str | None = None


def never() -> Figure:
    raise AssertionError("measured again")


def test_what_was_measured_is_found_by_the_next_search_with_its_seconds(tmp_path):
    first = Ledger(tmp_path, "a graph")
    assert first.remember("time it", ("a", 3), lambda: Figure(1.5), Figure) == Figure(1.5)
    again = Ledger(tmp_path, "a graph")
    assert again.remember("time it", ("a", 3), never, Figure) == Figure(1.5)
    assert again.spent_s == first.spent_s > 0
    assert (again.found, again.made) == (1, 0)


def test_another_context_kind_or_detail_is_measured_anew(tmp_path):
    Ledger(tmp_path, "a graph").remember("time it", ("a", 3), lambda: Figure(1.0), Figure)
    for context, what, details in (
        ("another", "time it", ("a", 3)),
        ("a graph", "load it", ("a", 3)),
        ("a graph", "time it", ("a", 4)),
    ):
        assert Ledger(tmp_path, context).remember(what, details, lambda: Figure(2.0), Figure).value == 2.0


def test_what_fails_is_not_kept(tmp_path):
    ledger = Ledger(tmp_path, "a graph")
    with pytest.raises(ZeroDivisionError):
        ledger.remember("time it", None, lambda: 1 / 0, float)
    assert ledger.remember("time it", None, lambda: 2.0, float) == 2.0


def test_a_damaged_entry_is_measured_again(tmp_path):
    ledger = Ledger(tmp_path, "a graph")
    ledger.remember("time it", None, lambda: Figure(1.0), Figure)
    (file,) = ledger.folder.glob("*.json")
    file.write_bytes(file.read_bytes()[:10])
    assert Ledger(tmp_path, "a graph").remember("time it", None, lambda: Figure(2.0), Figure).value == 2.0


def write(text: str):
    def to(path: Path) -> Figure:
        path.write_text(text)
        return Figure(1.0)

    return to


def test_a_file_is_written_once_and_again_where_it_was_tampered_with(tmp_path):
    ledger = Ledger(tmp_path, "a graph")
    path, _, sha = ledger.build("build it", "a", write("weights"), Figure)
    assert ledger.build("build it", "a", write("other"), Figure)[0].read_text() == "weights"
    path.write_text("tampered")
    again, _, anew = ledger.build("build it", "a", write("weights"), Figure)
    assert (again.read_text(), anew) == ("weights", sha)
    assert ledger.build("build it", "b", write("weights"), Figure)[2] == sha  # the same content, by any name
    assert ledger.build("build it", "c", write("others"), Figure)[2] != sha


def test_a_write_that_dies_leaves_no_file(tmp_path):
    ledger = Ledger(tmp_path, "a graph")

    def half(path: Path) -> Figure:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.build("build it", "a", half, Figure)
    assert not list(ledger.folder.glob("*.onnx"))
    assert ledger.build("build it", "a", write("whole"), Figure)[0].read_text() == "whole"


def test_the_least_recently_used_searches_are_removed_first(tmp_path):
    import os

    ledgers = [Ledger(tmp_path, str(index)) for index in range(4)]
    for age, ledger in enumerate(ledgers):
        (ledger.folder / "weights").write_bytes(bytes(1000))
        os.utime(ledger.folder, (1000 - age, 1000 - age))
    prune(tmp_path, ledgers[3].folder, most_bytes=2500)
    assert [ledger.folder.exists() for ledger in ledgers] == [True, False, False, True]


VALUES = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_equal_values_have_one_digest_and_others_another(one, other):
    assert digest(one) == digest(one)
    alike = json.dumps(one, default=repr) == json.dumps(other, default=repr) and repr(one) == repr(other)
    assert (digest(one) == digest(other)) == alike


def test_arrays_are_told_apart_by_dtype_shape_and_content():
    arrays = [np.zeros(4, np.float32), np.zeros(4, np.int32), np.zeros((2, 2), np.float32), np.asarray([0, 0, 0, 1], np.float32)]
    assert len({digest(array) for array in arrays}) == len(arrays)
    assert digest(np.asfortranarray(np.eye(3)[:2])) == digest(np.eye(3)[:2])
