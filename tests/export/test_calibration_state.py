"""Saved calibrations: what was killed goes on, what is finished is not repeated, what does not belong is not used."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_export import METHODS, Graph, Statistics, calibrate, ranges_from
from edgekit_export.calibration import collect
from edgekit_export.calibration.saved_state import fingerprint, next_digest
from edgekit_runtime.errors import CalibrationError

Feed = dict[str, np.ndarray]


def same(one: Statistics, other: Statistics) -> bool:
    """Whether all ranges of all methods are equal to the last bit."""
    return (one.inputs, one.examples) == (other.inputs, other.examples) and all(
        ranges_from(one.histograms, method).bounds == ranges_from(other.histograms, method).bounds for method in METHODS
    )


class Runs:
    """Counts how many examples were really run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.examples: list[int] = []
        read = collect.Probes.read

        def counting(probes: collect.Probes, feed: Feed, index: int) -> object:
            self.examples.append(index)
            return read(probes, feed, index)

        monkeypatch.setattr(collect.Probes, "read", counting)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


def breaking(feeds: list[Feed], after: int) -> Iterator[Feed]:
    yield from feeds[:after]
    raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 2])
def test_interrupted_work_goes_on_where_it_was_saved(
    after: int,
    tmp_path: Path,
    prepared: dict[str, Graph],
    feeds: dict[str, list[Feed]],
    statistics: dict[str, Statistics],
    runs: Runs,
) -> None:
    state, notes = tmp_path / "state.npz", list[str]()
    with pytest.raises(KeyboardInterrupt):
        calibrate(prepared["attention"], breaking(feeds["attention"], after), state=state, save_interval_s=0)
    done: list[int] = []
    runs.examples.clear()
    found = calibrate(prepared["attention"], iter(feeds["attention"]), done.append, state=state, on_note=notes.append)
    assert same(found, statistics["attention"])
    assert runs.examples == list(range(after, 3))
    assert done == [1, 2, 3]
    assert notes == []
    assert list(tmp_path.iterdir()) == [state]


CHILD = """
import sys, time
from pathlib import Path
import numpy as np
from edgekit_export import Graph, calibrate

def feeds():
    for seed in range(40):
        time.sleep(0.05)
        yield {"image": np.random.default_rng(seed).standard_normal((2, 3, 12, 12)).astype(np.float32)}

calibrate(Graph.read(Path(sys.argv[1])), feeds(), lambda done: print(done, flush=True), state=Path(sys.argv[2]), save_interval_s=0)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_process_loses_nothing(tmp_path: Path, prepared: dict[str, Graph], runs: Runs) -> None:
    model, state = tmp_path / "model.onnx", tmp_path / "state.npz"
    prepared["conv"].save(model)
    command = [sys.executable, "-c", CHILD, str(model), str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) == 10:
                child.kill()
                break
    assert child.returncode == -signal.SIGKILL
    data = [{"image": np.random.default_rng(seed).standard_normal((2, 3, 12, 12)).astype(np.float32)} for seed in range(40)]
    graph = Graph.read(model)
    found = calibrate(graph, data, state=state)
    assert 20 <= len(runs.examples) <= 31  # what the other process had saved was not run again
    assert same(found, calibrate(graph, data))


def test_finished_work_is_not_repeated_and_more_data_is_added(
    tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], statistics: dict[str, Statistics], runs: Runs
) -> None:
    state = tmp_path / "state.npz"
    calibrate(prepared["lstm"], feeds["lstm"][:2], state=state)
    assert runs.examples == [0, 1]
    calibrate(prepared["lstm"], iter(feeds["lstm"][:2]), state=state)
    assert runs.examples == [0, 1]
    assert same(calibrate(prepared["lstm"], feeds["lstm"], state=state), statistics["lstm"])
    assert runs.examples == [0, 1, 2]


@pytest.mark.parametrize("order", [(1, 0), (0,), (0, 2, 1)], ids=["other order", "fewer", "another one in between"])
def test_other_data_starts_over_and_says_so(
    order: tuple[int, ...], tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], runs: Runs
) -> None:
    state, notes = tmp_path / "state.npz", list[str]()
    calibrate(prepared["conv"], feeds["conv"][:2], state=state)
    data = [feeds["conv"][index] for index in order]
    runs.examples.clear()
    found = calibrate(prepared["conv"], data, state=state, on_note=notes.append)
    assert notes == [f"calibration starts over: the data is not what {state} was made from"]
    assert runs.examples == list(range(len(data)))
    assert same(found, calibrate(prepared["conv"], data))


def test_other_data_that_can_be_read_only_once_is_not_half_used(
    tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]]
) -> None:
    state = tmp_path / "state.npz"
    calibrate(prepared["conv"], feeds["conv"], state=state)
    with pytest.raises(CalibrationError, match=r"can be read only once; delete that file, or give data that can be iterated again"):
        calibrate(prepared["conv"], reversed(feeds["conv"]), state=state)


def test_another_graph_starts_over_and_says_so(
    tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], statistics: dict[str, Statistics]
) -> None:
    state, notes = tmp_path / "state.npz", list[str]()
    calibrate(prepared["conv"], feeds["conv"], state=state)
    found = calibrate(prepared["lstm"], feeds["lstm"], state=state, on_note=notes.append)
    assert notes == [f"calibration starts over: {state} is of another graph, other settings or another onnxruntime"]
    assert same(found, statistics["lstm"])


def test_one_changed_weight_or_attribute_makes_another_graph(prepared: dict[str, Graph]) -> None:
    graph = prepared["conv"]
    assert fingerprint(graph, []) == fingerprint(graph.changed("copy", lambda _: "copied"), [])

    def other_weight(model: ir.Model) -> str:
        value = next(iter(model.graph.initializers.values()))
        assert value.const_value is not None
        array = value.const_value.numpy().copy()
        array.reshape(-1)[0] += 1
        value.const_value = ir.tensor(array, name=value.name)
        return "one weight"

    def other_stride(model: ir.Model) -> str:
        node = next(node for node in model.graph if node.op_type == "Conv")
        node.attributes["strides"] = ir.AttrInt64s("strides", [2, 2])
        return "one stride"

    prints = {fingerprint(changed, []) for changed in (graph, graph.changed("a", other_weight), graph.changed("b", other_stride))}
    assert len(prints) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "foreign"])
def test_a_damaged_file_starts_over_and_says_so(
    damage: str, tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]], statistics: dict[str, Statistics]
) -> None:
    state, notes = tmp_path / "state.npz", list[str]()
    calibrate(prepared["conv"], feeds["conv"][:1], state=state)
    content = state.read_bytes()
    middle = len(content) // 2
    if damage == "foreign":
        np.savez(state, x=np.zeros(3))
    else:
        damaged = {
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :],
            "empty": b"",
            "text": b"no state at all",
        }
        state.write_bytes(damaged[damage])
    found = calibrate(prepared["conv"], feeds["conv"], state=state, on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("calibration starts over: read ")
    assert same(found, statistics["conv"])
    # What is there now is sound again.
    assert same(calibrate(prepared["conv"], feeds["conv"], state=state, on_note=notes.append), statistics["conv"])
    assert len(notes) == 1


def test_nobody_to_tell_makes_it_a_warning(tmp_path: Path, prepared: dict[str, Graph], feeds: dict[str, list[Feed]]) -> None:
    state = tmp_path / "state.npz"
    state.write_text("no state at all")
    with pytest.warns(RuntimeWarning, match="calibration starts over"):
        calibrate(prepared["conv"], feeds["conv"], state=state)


FEEDS = st.lists(
    st.dictionaries(st.sampled_from("ab"), st.binary(max_size=3).map(lambda raw: np.frombuffer(raw, np.uint8)), max_size=2),
    max_size=3,
)


@given(one=FEEDS, other=FEEDS)
def test_digests_are_equal_for_equal_feeds_only(one: list[Feed], other: list[Feed]) -> None:
    def digest(feeds: list[Feed]) -> str:
        found = ""
        for feed in feeds:
            found = next_digest(found, feed)
        return found

    def plain(feeds: list[Feed]) -> list[dict[str, bytes]]:
        return [{name: array.tobytes() for name, array in feed.items()} for feed in feeds]

    assert (digest(one) == digest(other)) == (plain(one) == plain(other))


def test_digests_see_dtype_shape_and_strings_and_not_memory_order() -> None:
    square = np.arange(4, dtype=np.int32).reshape(2, 2)
    others = [
        square,
        square.reshape(4),
        square.view(np.float32),
        square.T,
        np.array(["a", "b"], object),
        np.array(["ab", ""], object),
    ]
    assert len({next_digest("", {"x": other}) for other in others}) == len(others)
    assert next_digest("", {"x": np.asfortranarray(square)}) == next_digest("", {"x": square})
