import json
import re

import pytest

from edgekit.labs.emulated.boards import board_names, load_board
from edgekit.labs.emulated.emulator import EmulatedBoard
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.launch import launch
from edgekit.labs.emulated.overlay import make_overlay
from edgekit.labs.place import find_place
from edgekit.target import load_target, target_names
from edgekit_runtime.errors import LabError
from edgekit_runtime.machine import cpu_name, isa_features

BOARDS = [load_board(name) for name in board_names()]
ARM = [board for board in BOARDS if board.architecture == "aarch64"]


def each(boards):
    return pytest.mark.parametrize("board", boards, ids=[board.name for board in boards])


def test_what_the_issue_asks_for_is_there():
    assert {"raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w", "arm64-i8mm", "cpu-x64-avx2"} <= set(
        board_names()
    )


@each(BOARDS)
def test_the_runtime_reads_a_boards_instruction_sets_from_its_cpuinfo(board):
    assert isa_features(board.cpuinfo) == board.isa
    assert "emulated" in cpu_name(board.cpuinfo)


@each([board for board in BOARDS if board.name in target_names()])
def test_a_board_has_what_the_target_of_its_name_promises(board):
    target = load_target(board.name)
    assert board.architecture == target.architecture
    assert set(target.isa) <= set(board.isa)
    for feature in ("dotprod", "i8mm", "vnni"):
        assert (feature in board.isa) == (feature in target.isa)


@each(BOARDS)
def test_caches_divide_into_sets_of_whole_lines(board):
    assert board.line_bytes & (board.line_bytes - 1) == 0
    for cache in (board.l1, board.l2):
        sets, rest = divmod(cache.size_bytes, cache.ways * board.line_bytes)
        assert rest == 0
        assert sets & (sets - 1) == 0
    assert board.l1.size_bytes < board.l2.size_bytes < board.memory_bytes


@each(ARM)
def test_sme_is_off_where_all_features_are_on(board):
    assert "max" not in board.cpu or "sme=off" in board.cpu


def test_an_unknown_board_is_told_with_those_that_there_are():
    with pytest.raises(LabError, match=r"load board 'raspberry-pi-6': unknown; there are arm64-i8mm, .*raspberry-pi-5"):
        load_board("raspberry-pi-6")


@each(BOARDS)
def test_an_overlay_shows_the_board_and_its_own_system(board, tmp_path):
    lab = Lab(tmp_path)
    folder = make_overlay(lab, board)
    assert cpu_name((folder / "proc/cpuinfo").read_text()) == cpu_name(board.cpuinfo)
    assert int((folder / "sys/fs/cgroup/memory.max").read_text()) == board.memory_bytes
    assert make_overlay(lab, board) == folder
    lab.sysroot.mkdir()
    (lab.sysroot / "lib").mkdir()
    assert (folder / "lib").is_dir() == (board.architecture == "aarch64")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@each(ARM)
def test_a_launch_hands_nothing_of_this_interpreter_to_the_board(board, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("LD_PRELOAD", "/somewhere/else.so")
    lab = Lab(tmp_path / "a,b")
    (lab.emulator / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    start = launch(lab, board, ["-c", "pass"], (tmp_path / "x,y.so", {"out": "p,q"}))
    assert start.command[0] == str(lab.qemu("aarch64"))
    assert start.command[start.command.index("-cpu") + 1] == board.cpu
    # A comma in a value is doubled, or the emulator takes the rest for another option.
    assert start.command[start.command.index("-plugin") + 1] == f"{tmp_path}/x,,y.so,out=p,,q"
    assert start.command[-2:] == ["-c", "pass"]
    own = {name for name in start.environment if re.match("PYTHON|LD_", name)}
    assert own == {"PYTHONHOME", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONPYCACHEPREFIX", "LD_LIBRARY_PATH"}
    runtime, site = start.environment["PYTHONPATH"].split(":")
    assert site == str(lab.site)
    assert [path.name for path in (tmp_path / runtime).iterdir()] == ["edgekit_runtime"]
    assert start.environment["LD_LIBRARY_PATH"] == str(lab.emulator / "usr/lib/x86_64-linux-gnu")
    # Those libraries are the emulator's alone.
    assert start.command[start.command.index("-U") + 1] == "LD_LIBRARY_PATH"


def test_an_x86_board_needs_an_x86_machine(tmp_path, monkeypatch):
    from edgekit.labs.emulated import launch as module

    here = module.machine()
    monkeypatch.setattr(module, "machine", lambda: type(here)("aarch64", *(getattr(here, name) for name in FIELDS[1:])))
    with pytest.raises(LabError, match=r"start cpu-x64-avx2: it runs this machine's own Python, which is for aarch64"):
        launch(Lab(tmp_path), load_board("cpu-x64-avx2"), ["-c", "pass"])


FIELDS = ("architecture", "cpu", "isa", "cores", "cores_total", "memory_bytes", "system", "python")


def test_a_board_is_a_place_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    place = find_place("raspberry-pi-5")
    assert isinstance(place, EmulatedBoard)
    assert (place.name, place.kind) == ("raspberry-pi-5", "emulated")
    assert place.lab.folder == lab_folder() == tmp_path / "lab"
    told = r"start raspberry-pi-5: the lab of emulated boards in .* is not set up; run edgekit lab setup"
    with pytest.raises(LabError, match=told), place.start():
        pytest.fail("it started")


def test_boards_are_listed_before_the_lab_is_there(cli):
    ended = cli("lab", "list", "--json")
    assert ended.status == 0
    listing = json.loads(ended.out)
    assert [board["name"] for board in listing["boards"]] == board_names()
    assert not any(board["counts"] for board in listing["boards"])
    assert listing["missing"]
    text = cli("lab", "list").out
    assert "raspberry-pi-5" in text
    assert "run edgekit lab setup" in text
