"""Packing bundles: what is in them, and what a kill, a full disk or Ctrl-C leaves behind."""

import errno
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit_export import Contents, Graph, pack
from edgekit_export.pack import lowest_onnxruntime
from edgekit_export.swap import check_destination, swap_in, workspace
from edgekit_runtime import load
from edgekit_runtime.benchmark import size_bytes
from edgekit_runtime.errors import BundleError, OutputError
from edgekit_runtime.selftest import selftest

Feed = dict[str, np.ndarray]

# Packs over one bundle again and again, in a child of its own that can be killed at any moment; importing costs seconds, so
# the children are forks of one process that has imported everything.
PACKER = """
import os, pickle, sys
from dataclasses import replace
from pathlib import Path
from edgekit_export import pack
from edgekit_export.swap import workspace

contents = pickle.loads(Path(sys.argv[1]).read_bytes())
out = Path(sys.argv[2])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        for number in range(10_000):
            with workspace(out) as folder:
                pack(replace(contents, report=f"{line.strip()}.{number}" * 1000), folder / "bundle", out)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""


def packed(contents: Contents, out: Path) -> None:
    with workspace(out) as folder:
        pack(contents, folder / "bundle", out)


def sound(bundle: Path) -> bool:
    """Hashes fit and golden outputs are reproduced."""
    return selftest(load(bundle)).passed


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_bundle_opens_with_the_runtime(contents: Contents, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "conv.edge"
    check_destination(out)
    packed(contents, out)
    assert names(out) == ["golden.npz", "manifest.json", "model.onnx", "report.html"]
    assert sound(out)
    manifest = load(out).manifest
    assert manifest is not None
    assert (manifest.name, manifest.target, manifest.chosen.name) == ("conv", "host", "float32")
    assert [str(spec) for spec in manifest.inputs] == ["image float32[batch, 3, 12, 12]"]
    assert names(out.parent) == ["conv.edge"]


def test_a_large_models_data_file_goes_along_under_the_models_new_name(
    contents: Contents, prepared: dict[str, Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit_export.graph.EXTERNAL_DATA_BYTES", 100)
    prepared["conv"].save(contents.model)
    assert names(contents.model.parent) == ["static.onnx", "static.onnx.data"]
    out = tmp_path / "conv.edge"
    packed(contents, out)
    assert names(out) == ["golden.npz", "manifest.json", "model.onnx", "model.onnx.data", "report.html"]
    assert size_bytes(out / "model.onnx") == sum((out / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert size_bytes(out / "model.onnx") == pytest.approx(size_bytes(contents.model), rel=0.01)
    for file in contents.model.parent.iterdir():
        file.unlink()  # nothing points back at what it was made from
    assert sound(out)
    data = bytearray((out / "model.onnx.data").read_bytes())
    data[100] ^= 1
    (out / "model.onnx.data").write_bytes(data)
    with pytest.raises(BundleError, match=r"model.onnx.data is damaged"):
        load(out)


def test_what_is_not_a_bundle_is_left_alone(contents: Contents, tmp_path: Path) -> None:
    full = tmp_path / "photos"
    full.mkdir()
    (full / "cat.jpg").write_text("a cat")
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "built")
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    for name in ("photos", "file", "link", "nowhere"):
        with pytest.raises(OutputError, match=rf"{name}: it exists and is not a bundle, so it is left alone; choose another --out"):
            check_destination(tmp_path / name)
        with pytest.raises(OutputError, match="it is left alone"):
            packed(contents, tmp_path / name)
    assert (full / "cat.jpg").read_text() == "a cat"
    assert names(tmp_path) == ["built", "file", "link", "nowhere", "photos"]


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(OutputError, match="it is no name for a bundle"):
        check_destination(Path(name))


def test_destinations_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for out in (tmp_path / "file" / "x.edge", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match=r"write .*: "):
            check_destination(out)


def test_an_empty_folder_is_taken_and_an_old_bundle_replaced(contents: Contents, tmp_path: Path) -> None:
    out = tmp_path / "conv.edge"
    out.mkdir()
    packed(contents, out)
    packed(replace(contents, report="new"), out)
    assert (out / "report.html").read_text() == "new"
    assert sound(out)
    assert names(tmp_path) == ["built", "conv.edge"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_at_any_moment_leaves_the_old_bundle_or_the_new_one(contents: Contents, tmp_path: Path) -> None:
    out = tmp_path / "conv.edge"
    packed(contents, out)
    (tmp_path / "contents").write_bytes(pickle.dumps(contents))
    command = [sys.executable, "-c", PACKER, str(tmp_path / "contents"), str(out)]
    moments, reports = random.Random(0), set()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as packer:
        assert packer.stdin is not None
        assert packer.stdout is not None
        for round_ in range(30):
            packer.stdin.write(f"{round_}\n")
            child = int(packer.stdout.readline())
            time.sleep(moments.uniform(0.0, 0.1))
            os.kill(child, signal.SIGKILL)
            assert packer.stdout.readline() == "gone\n"
            assert sound(out), f"after kill {round_}"
            reports.add((out / "report.html").read_text()[:20])
        packer.stdin.close()
    assert packer.returncode == 0
    assert len(reports) > 1  # it was replaced now and then
    with workspace(out):
        pass
    assert names(tmp_path) == ["built", "contents", "conv.edge"]


@pytest.mark.skipif(os.name != "posix", reason="processes cannot be asked for there")
def test_folders_of_dead_runs_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    out = tmp_path / "conv.edge"
    keep = [
        f".conv.edge.{os.getpid()}.abc.tmp",
        f".other.edge.{dead.pid}.abc.tmp",
        ".conv.edge.notes.tmp",
        f".conv.edge.{dead.pid}.txt",
    ]
    for name in (*keep, f".conv.edge.{dead.pid}.abc_1.tmp"):
        (tmp_path / name).mkdir()
    with workspace(out) as folder:
        assert folder.parent == tmp_path
    assert names(tmp_path) == sorted(keep)


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit_export.swap._exchange", lambda *_: False)


def test_a_system_without_exchange_swaps_by_renaming(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_exchange(monkeypatch)
    out = tmp_path / "conv.edge"
    packed(contents, out)
    packed(replace(contents, report="new"), out)
    assert (out / "report.html").read_text() == "new"
    assert names(tmp_path) == ["built", "conv.edge"]


def test_without_exchange_a_failed_rename_puts_the_old_bundle_back(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "conv.edge"
    packed(contents, out)
    without_exchange(monkeypatch)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "bundle":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed(replace(contents, report="new"), out)
    assert sound(out)
    assert names(tmp_path) == ["built", "conv.edge"]


@pytest.mark.skipif(os.name != "posix", reason="processes cannot be asked for there")
def test_without_exchange_the_next_run_puts_the_old_bundle_back_after_a_kill(contents: Contents, tmp_path: Path) -> None:
    out = tmp_path / "conv.edge"
    packed(contents, out)
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    aside = tmp_path / f".conv.edge.{dead.pid}.abc.tmp"
    aside.mkdir()
    out.rename(aside / "old")
    with workspace(out):
        assert sound(out)
    assert names(tmp_path) == ["built", "conv.edge"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_leaves_the_old_bundle(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    out = tmp_path / "conv.edge"
    packed(contents, out)

    def full(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OutputError, match=r"conv.edge: no space left on the device \(.* MB free\); make room .*untouched"):
        packed(contents, out)
    assert sound(out)
    assert names(tmp_path) == ["built", "conv.edge"]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set with prlimit")
def test_a_disk_that_really_refuses_leaves_the_old_bundle(contents: Contents, tmp_path: Path) -> None:
    """A limit on file sizes: the kernel cuts the copy off in its middle."""
    out = tmp_path / "conv.edge"
    packed(contents, out)
    (tmp_path / "contents").write_bytes(pickle.dumps(contents))
    limit = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (999, 999))"
    program = PACKER.replace("contents = ", f"import resource, signal; {limit}\ncontents = ").replace("os.fork()", "0")
    command = [sys.executable, "-c", program, str(tmp_path / "contents"), str(out)]
    done = subprocess.run(command, input="0\n", text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert "OutputError: write " in done.stderr
    assert "no space left on the device" in done.stderr
    assert sound(out)
    assert names(tmp_path) == ["built", "contents", "conv.edge"]


def test_ctrl_c_leaves_nothing(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["edgekit_export.pack"], "write_arrays", interrupted)
    with pytest.raises(KeyboardInterrupt):
        packed(contents, tmp_path / "conv.edge")
    assert names(tmp_path) == ["built"]


def test_errors_of_the_users_own_files_are_not_taken_for_ours(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), workspace(tmp_path / "x.edge"):
        raise PermissionError(errno.EACCES, "Permission denied", "labels.csv")
    assert names(tmp_path) == []


def test_swapping_flushes_and_reports_what_cannot_be_done(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"write .*out.edge: No such file or directory \(.*absent\)"):
        swap_in(tmp_path / "absent", tmp_path / "out.edge")


@pytest.mark.parametrize(("opset", "release"), [(13, "1.22"), (22, "1.22"), (23, "1.23"), (24, "1.24"), (99, "1.25")])
def test_the_lowest_onnxruntime_that_opens_it(opset: int, release: str, tmp_path: Path) -> None:
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)]), tmp_path / "m.onnx")
    assert lowest_onnxruntime(tmp_path / "m.onnx") == release
