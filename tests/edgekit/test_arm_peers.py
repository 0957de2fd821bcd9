"""The benchmark of peers on emulated boards: who counts as a rival, what rows say, wheels that are kept, and marked calls."""

import json
import os
import sys
import zipfile
from hashlib import sha256

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.arm_rivals import ncnn_from_torch, on_board, sites
from benchmarks.arm_rivals.comparing import Result, bars, best_rival, calls, rows
from benchmarks.arm_rivals.counting import Model, Seen, count_calls
from benchmarks.arm_rivals.entries import OURS, RIVALS, Entry, entries
from benchmarks.arm_rivals.nothing import NOTHING_FEED, write_nothing
from benchmarks.arm_rivals.sites import fetched, peer_pins
from edgekit.labs.emulated.boards import load_board
from edgekit.labs.emulated.counts import Counts, InstructionMix, can_count
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.pins import Wheel
from edgekit_runtime.errors import LabError

from .conftest import quadrants_model

# The user's own lab: tests get another cache folder, but not another lab.
LAB = Lab(lab_folder())
PI_4, PI_5 = "raspberry-pi-4", "raspberry-pi-5"
decibels = st.floats(-200, 200)


def counts(million: float) -> Counts:
    instructions = round(million * 1e6)
    return Counts(PI_4, instructions, InstructionMix(*[0] * 8, instructions), None, 6, 0.0)


def result(who: str, million: float, sqnr_db: float, scheme: str = "int8") -> Result:
    return Result(PI_4, "fashion", who, scheme, Seen(counts(million), counts(0.05), sqnr_db))


@given(ours=decibels, theirs=st.lists(st.tuples(st.sampled_from(["onnxruntime", *RIVALS]), st.floats(1, 9), decibels), max_size=6))
def test_the_best_rival_is_a_peer_as_near_as_ours_with_the_fewest_instructions(ours, theirs):
    mine = result(OURS, 5.0, ours)
    others = [result(who, million, near) for who, million, near in theirs]
    near = [one for one in others if one.who in RIVALS and one.seen.sqnr_db >= min(ours, 60.0)]
    found = best_rival(mine, [mine, *others])
    if near:
        assert found is not None
        assert found.seen.counts.instructions <= min(one.seen.counts.instructions for one in near)
    if found is not None:
        assert found.who in RIVALS
        assert found.seen.sqnr_db >= min(ours, 60.0) - 0.11


def test_rows_say_who_won_and_why_something_is_missing():
    failed = Result(PI_4, "fashion", "ncnn", "float32", failure="it does not load")
    table = rows([result(OURS, 6.0, 20.0), result("litert", 4.0, 30.0), result("litert", 2.0, 10.0, "fast"), failed])
    ours, near, far, missing = table
    assert (ours["best_rival"], ours["over_rival"]) == ("litert int8", pytest.approx(1.5))
    assert ours["note"]
    assert [row["ours_over"] for row in (near, far)] == [pytest.approx(1.5), pytest.approx(3.0)]
    assert (near["million"], near["call_million"], near["other"]) == (4.0, 0.05, 4.0)
    assert missing["note"] == "it does not load"
    assert "million" not in missing


def test_a_won_row_needs_no_cause_and_equal_outputs_are_a_number():
    ours, _ = rows([result(OURS, 2.0, np.inf), result("ncnn", 4.0, 100.0)])
    assert ours["over_rival"] == pytest.approx(0.5)
    assert "note" not in ours
    assert np.isfinite(ours["sqnr_db"])


def test_a_bar_has_no_value_where_ours_or_every_near_rival_is_missing():
    lost, won = [result(OURS, 6.0, 20.0), result("litert", 4.0, 30.0)], [result(OURS, 3.0, 20.0), result("ncnn", 4.0, 30.0)]
    alone = [result(OURS, 6.0, 20.0), result("litert", 4.0, 10.0)]
    broken = [Result(PI_4, "fashion", OURS, "chosen", failure="it does not open"), result("litert", 4.0, 30.0)]
    found = bars([lost, won, alone, broken])
    assert [bar.value for bar in found] == [pytest.approx(1.5), pytest.approx(0.75), None, None]
    assert [bar.holds for bar in found] == [False, True, False, False]
    assert "litert int8" in found[0].name


def test_what_a_call_costs_is_told_once_a_peer():
    found = calls([result("litert", 4.0, 30.0), result("litert", 5.0, 30.0), result("ncnn", 4.0, 30.0)])
    assert [(row["who"], row["million"]) for row in found] == [("litert", 0.05), ("ncnn", 0.05)]


@pytest.mark.parametrize(("board", "half"), [(PI_4, False), (PI_5, True)])
def test_half_floats_are_compared_where_the_board_computes_with_them(board, half):
    everybody = list(entries(load_board(board)))
    names = [(one.who, one.way) for one in everybody]
    assert names[0][0] == OURS
    assert len(set(names)) == len(names)
    assert (("ncnn", "float16") in names) == half
    assert {one.who for one in everybody} <= on_board.PEERS.keys()


def test_every_wheel_is_pinned_by_version_and_checksum():
    wheels = peer_pins().board | peer_pins().here
    assert set(RIVALS.values()) <= wheels.keys()
    for wheel in wheels.values():
        assert wheel.version
        assert len(bytes.fromhex(wheel.sha256)) == 32


def wheel_of(folder, text):
    path = folder / "peer-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("peer/__init__.py", text)
    return path


def test_a_fetched_wheel_is_kept_until_its_pin_changes_and_survives_a_failed_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(sites, "BUILD", tmp_path)
    fetches = []

    def fetch(text):
        def fetch_into(folder):
            fetches.append(text)
            return wheel_of(folder, text)

        return fetch_into

    def fail(_):
        raise LabError("there is no index")

    old, new = (Wheel("1", sha256(text.encode()).hexdigest()) for text in ("old", "new"))
    folder = fetched("peer", old, fetch("old"))
    assert fetched("peer", old, fetch("other")) == folder
    assert fetches == ["old"]
    with pytest.raises(LabError, match="no index"):
        fetched("peer", new, fail)
    assert (folder / "peer" / "__init__.py").read_text() == "old"
    assert (fetched("peer", new, fetch("new")) / "peer" / "__init__.py").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["peer"]  # nothing is left aside


def asked(file, material, out):
    return {"file": str(file), "material": str(material), "feeds": 1, "out": str(out), "warm_ups": 1, "runs": 2}


def test_on_a_board_every_call_is_between_two_marks_that_never_repeat(tmp_path, monkeypatch):
    material = write_nothing(tmp_path / "nothing")
    marks = []

    def seek(descriptor, tag, _):
        marks.append((descriptor, tag))
        raise OSError

    monkeypatch.setattr(os, "lseek", seek)
    (tmp_path / "job.json").write_text(json.dumps([asked(material / "model.onnx", material, tmp_path / f"{n}") for n in range(2)]))
    monkeypatch.setattr(sys, "argv", ["on_board", "onnxruntime", str(tmp_path / "job.json"), str(tmp_path / "answer.json")])
    on_board.main()
    assert json.loads((tmp_path / "answer.json").read_text()) == [[0, 2], [4, 6]]
    assert marks == [(on_board.MARK, tag) for tag in range(8)]
    for name in ("0", "1"):
        with np.load(tmp_path / name / "000.npz") as outputs:
            assert outputs["same"] == NOTHING_FEED["given"]


def test_a_converter_that_fails_is_an_error_with_its_last_words_and_leaves_no_model(tmp_path):
    pnnx = tmp_path / "pnnx"
    pnnx.write_text("#!/bin/sh\necho unsupported operator >&2\nexit 3\n")
    pnnx.chmod(0o755)
    out = tmp_path / f"float32{ncnn_from_torch.SUFFIX}"
    with pytest.raises(ValueError, match="ended with 3: unsupported operator"):
        ncnn_from_torch.build("float32", torch.nn.ReLU(), NOTHING_FEED, out, pnnx)
    assert not out.exists()


@pytest.mark.lab
@pytest.mark.skipif(not can_count(load_board(PI_5), LAB), reason="the lab of emulated boards is not set up; run: edgekit lab setup")
def test_a_network_is_counted_on_a_board_beside_nothing(tmp_path):
    nothing = write_nothing(tmp_path / "nothing")
    material = tmp_path / "material"
    feed = {"image": np.random.default_rng(0).normal(0, 0.7, (1, 64)).astype(np.float32)}
    quadrants_model(material_model(material))
    session = ort.InferenceSession(material / "model.onnx", providers=["CPUExecutionProvider"])
    for kind, arrays in (("evaluation", feed), ("reference", {"logits": session.run(["logits"], feed)[0]})):
        (material / kind).mkdir()
        np.savez(material / kind / "000.npz", **arrays)
    entry = Entry("onnxruntime", "float32", load_board(PI_5))
    empty = Model(nothing / "model.onnx", nothing)
    seen = count_calls(LAB, entry, Model(material / "model.onnx", material), empty, 1)
    assert seen.sqnr_db > 100
    assert seen.counts.board == PI_5
    assert seen.counts.mix is not None
    assert seen.nothing.mix is not None
    # 64 × 256 and 256 × 4 products, four to an instruction
    assert seen.counts.mix.float_fma - seen.nothing.mix.float_fma >= (64 * 256 + 256 * 4) // 4
    assert seen.counts.instructions > seen.nothing.instructions
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(LabError, match=r"count onnxruntime float32 on raspberry-pi-5: .*broken\.onnx"):
        count_calls(LAB, entry, Model(tmp_path / "broken.onnx", material), empty, 1)


def material_model(folder):
    """Where the network's file goes; its names lie beside it."""
    folder.mkdir()
    (folder / "signature.json").write_text(json.dumps({"inputs": ["image"], "outputs": ["logits"]}))
    return folder / "model.onnx"
