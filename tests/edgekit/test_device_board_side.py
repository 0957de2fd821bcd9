"""What runs on a board with its Python alone, on a folder of this machine."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest

from edgekit.labs.devices import board_side
from edgekit.labs.devices.board_side import MARKER, probe, script, settle, unpack, wanted


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Files:
    """Files on their way to a board at `root`."""

    def __init__(self, root, **contents):
        self.root, self.contents = root, contents
        self.files = {name: (sha(data), len(data)) for name, data in contents.items()}

    def order(self, folder):
        return {"root": str(self.root), "folder": folder, "files": self.files}

    def arrive(self, *names):
        for name in names or self.contents:
            (self.root / "incoming" / sha(self.contents[name])).write_bytes(self.contents[name])


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "root", model=b"m" * 100, manifest=b"{}")


def test_what_is_missing_is_asked_for_once(files):
    asked = wanted(**files.order("bundles/a-1"))
    assert asked == {"settled": False, "missing": {sha(b"m" * 100): 0, sha(b"{}"): 0}}
    files.arrive()
    assert settle(**files.order("bundles/a-1")) == {"damaged": []}
    place = files.root / "bundles" / "a-1"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == files.contents
    assert wanted(**files.order("bundles/a-1")) == {"settled": True, "missing": {}}
    assert list((files.root / "incoming").iterdir()) == []
    assert [path.name for path in place.parent.iterdir()] == ["a-1"]


def test_what_was_begun_goes_on_and_what_is_too_long_does_not(files):
    wanted(**files.order("bundles/a-1"))
    begun = files.root / "incoming" / sha(b"m" * 100)
    begun.write_bytes(b"m" * 40)
    assert wanted(**files.order("bundles/a-1"))["missing"][sha(b"m" * 100)] == 40
    begun.write_bytes(b"m" * 140)
    assert wanted(**files.order("bundles/a-1"))["missing"][sha(b"m" * 100)] == 0
    assert not begun.exists()


def test_what_arrived_damaged_is_removed_and_named_and_nothing_stands(files):
    wanted(**files.order("bundles/a-1"))
    files.arrive()
    bad = files.root / "incoming" / sha(b"m" * 100)
    bad.write_bytes(b"M" + b"m" * 99)
    assert settle(**files.order("bundles/a-1")) == {"damaged": [bad.name]}
    assert not bad.exists()
    assert not (files.root / "bundles").exists()
    assert list(wanted(**files.order("bundles/a-1"))["missing"]) == [bad.name]  # the sound one is not asked for again


def test_files_of_an_earlier_version_are_taken_from_there(files):
    wanted(**files.order("bundles/a-1"))
    files.arrive()
    settle(**files.order("bundles/a-1"))
    newer = Files(files.root, model=b"m" * 100, manifest=b'{"new": 1}')
    assert wanted(**newer.order("bundles/a-2"))["missing"] == {sha(b'{"new": 1}'): 0}
    newer.arrive("manifest")
    assert settle(**newer.order("bundles/a-2")) == {"damaged": []}
    assert (files.root / "bundles" / "a-2" / "model").read_bytes() == b"m" * 100
    other = Files(files.root, model=b"m" * 100)
    assert wanted(**other.order("bundles/a-b-1"))["missing"] == {sha(b"m" * 100): 0}


def test_a_version_that_was_changed_there_is_not_trusted(files):
    wanted(**files.order("bundles/a-1"))
    files.arrive()
    settle(**files.order("bundles/a-1"))
    (files.root / "bundles" / "a-1" / "model").write_bytes(b"x" * 100)
    assert sha(b"m" * 100) in wanted(**files.order("bundles/a-2"))["missing"]


def test_old_versions_go_and_other_things_stay(files):
    for number in range(1, 7):
        own = Files(files.root, model=b"%d" % number)
        wanted(**own.order(f"bundles/a-{number}"))
        own.arrive()
        settle(**own.order(f"bundles/a-{number}"))
        os.utime(files.root / "bundles" / f"a-{number}", (1e9 + number, 1e9 + number))
    other = Files(files.root, model=b"b")
    wanted(**other.order("bundles/b-1"))
    other.arrive()
    settle(**other.order("bundles/b-1"))
    left = sorted(path.name for path in (files.root / "bundles").iterdir())
    assert left == ["a-4", "a-5", "a-6", "b-1"]


def test_a_kill_at_any_moment_leaves_nothing_half_installed(files, monkeypatch):
    """Every system call that changes something fails once; then it is done over."""
    moments = 0
    while True:
        root = files.root.with_name(f"root{moments}")
        own = Files(root, **files.contents)
        wanted(**own.order("bundles/a-1"))
        own.arrive()
        left = [moments]

        def failing(original, left=left):
            def call(*given, **named):
                if left[0] == 0:
                    left[0] = -1
                    raise KeyboardInterrupt
                left[0] -= 1
                return original(*given, **named)

            return call

        with monkeypatch.context() as patch:
            for name in ("link", "rename", "replace", "mkdir", "unlink", "utime"):
                patch.setattr(os, name, failing(getattr(os, name)))
            patch.setattr(board_side.shutil, "rmtree", lambda *_, **__: None)  # a kill tidies up nothing
            with contextlib.suppress(KeyboardInterrupt):
                settle(**own.order("bundles/a-1"))
        place = root / "bundles" / "a-1"
        if place.exists():
            assert {path.name: path.read_bytes() for path in place.iterdir()} == own.contents
        if left[0] >= 0:
            break
        for name in wanted(**own.order("bundles/a-1"))["missing"]:
            data = next(data for data in own.contents.values() if sha(data) == name)
            (root / "incoming" / name).write_bytes(data)
        if not place.exists():
            assert settle(**own.order("bundles/a-1")) == {"damaged": []}
        assert {path.name: path.read_bytes() for path in place.iterdir()} == own.contents
        moments += 1
    assert moments > 5


def test_what_killed_sessions_left_goes_after_a_day(files):
    wanted(**files.order("bundles/a-1"))
    (files.root / "bundles").mkdir()
    old, young = files.root / "bundles" / ".a-1.1.partial", files.root / "bundles" / ".a-1.2.partial"
    for folder in (old, young):
        folder.mkdir()
    begun = files.root / "incoming" / ("0" * 64)
    begun.write_bytes(b"half")
    for path in (old, begun):
        os.utime(path, (1e9, 1e9))
    wanted(**files.order("bundles/a-1"))
    assert (old.exists(), young.exists(), begun.exists()) == (False, True, False)


def test_wheels_come_out_as_pip_would_put_them(tmp_path):
    with zipfile.ZipFile(tmp_path / "pkg.whl", "w") as archive:
        for name in ("pkg/", "pkg/__init__.py", "pkg.libs/lib.so", "pkg-1.data/platlib/pkg/more.py", "pkg-1.data/scripts/pkg"):
            archive.writestr(name, "")
    files = Files(tmp_path / "root", **{"pkg.whl": (tmp_path / "pkg.whl").read_bytes()})
    wanted(**files.order("site-1"))
    files.arrive()
    assert unpack(**files.order("site-1")) == {"damaged": []}
    site = tmp_path / "root" / "site-1"
    found = sorted(str(path.relative_to(site)) for path in site.rglob("*") if path.is_file())
    assert found == ["pkg.libs/lib.so", "pkg/__init__.py", "pkg/more.py"]


@pytest.mark.parametrize("name", ["../out", "/out", "a/../../out"])
def test_nothing_leaves_its_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr(name, "out")
    files = Files(tmp_path / "root", **{"w.whl": (tmp_path / "w.whl").read_bytes()})
    wanted(**files.order("site-1"))
    files.arrive()
    with pytest.raises(ValueError, match="leaves its folder"):
        unpack(**files.order("site-1"))
    assert not (tmp_path / "root" / "site-1").exists()
    with pytest.raises(ValueError, match="leaves its folder"):
        settle(str(tmp_path / "root"), "b-1", {name: files.files["w.whl"]})
    with pytest.raises(ValueError, match="leaves its folder"):
        wanted(str(tmp_path / "root"), name, {})


def asked(order, tmp_path, **more):
    environment = os.environ | {"HOME": str(tmp_path)} | more
    done = subprocess.run(
        [sys.executable, "-"], input=script(order), capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith(MARKER)]
    return json.loads(lines[0].removeprefix(MARKER)), done.stderr.decode()


def test_the_script_runs_by_itself_whatever_lies_in_the_home_folder(tmp_path):
    answer, said = asked({"do": "probe", "root": ".edgekit"}, tmp_path)
    assert answer["done"] == json.loads(json.dumps(probe(".edgekit"))) | {
        "root": str(tmp_path / ".edgekit"),
        "free_bytes": answer["done"]["free_bytes"],
    }
    assert said == ""
    assert {"numpy", "onnxruntime", "msgspec"} == set(answer["done"]["packages"])


def test_a_failure_there_is_an_answer(tmp_path):
    (tmp_path / "root").write_text("a file")
    answer, _ = asked({"do": "wanted", "root": str(tmp_path / "root"), "folder": "a-1", "files": {}}, tmp_path)
    assert answer["failed"].startswith(("NotADirectoryError", "FileExistsError"))
