"""Setting the lab up with programs that stand for apt-get, dpkg, pip and the emulator: what is fetched, checked, kept, said."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from edgekit.labs.emulated.apt import Apt, host_architecture
from edgekit.labs.emulated.debs import fetch_debs
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.pins import pins, upstream_version
from edgekit.labs.emulated.tools import run_tool, stop_tools
from edgekit.labs.emulated.wheels import unpack_wheel
from edgekit_runtime.errors import LabError

# Every stand-in writes a line to the log, and kills the set-up, its parent, when it is called with what $KILL_AT says.
HEAD = """\
#!{python} -IS
import json, os, signal, sys
from pathlib import Path
call = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
with open(os.environ["CALLS"], "a") as log:
    log.write(call + "\\n")
if os.environ.get("KILL_AT", "\\0") in call:
    os.kill(os.getppid(), signal.SIGKILL)
    sys.exit(1)
words = [word for word in sys.argv[1:] if word != "-o"]
"""
# A package's file holds its own name; its version is what the pins ask for, with a revision of Debian's.
APT = """
import hashlib
options = dict(word.split("=", 1) for word in words if "::" in word)
if os.environ.get("OFFLINE") and "update" in words:
    sys.exit("E: Failed to fetch: Temporary failure resolving")
if "download" in words:
    versions = json.loads(os.environ["VERSIONS"])
    for name in words[words.index("download") + 1:]:
        name, _, _ = name.partition("=")
        if name not in versions or os.environ.get("OFFLINE"):
            sys.exit(f"E: Unable to locate package {name}")
        version = f"1:{versions[name]}+dfsg-3+deb12u4".replace(":", "%3a")
        file = f"{name}_{version}_{options['APT::Architecture']}.deb"
        data = file.encode()
        if "--print-uris" in words:
            print(f"'file:/pool/{file}' {file} {len(data)} SHA256:{hashlib.sha256(data).hexdigest()}")
        else:
            Path(file).write_bytes(b"cut off" if os.environ.get("DAMAGED") else data)
"""
# Those that are called most are shell scripts: they start ten times as fast.
SHELL = """\
#!/bin/sh
PATH=/usr/bin:/bin
call="$(basename $0) $*"
echo "$call" >> $CALLS
case "$call" in *"${KILL_AT:-nothing is called so}"*) kill -9 $PPID; exit 1;; esac
"""
DPKG = """
[ $1 = --print-architecture ] && exec echo ${ARCHITECTURE:-amd64}
name=$(basename $2 | cut -d_ -f1)
mkdir -p $3/usr/share/doc/$name
case $name:$3 in
qemu-user:*)
    mkdir -p $3/usr/bin
    for guest in aarch64 x86_64 arm; do cp $QEMU $3/usr/bin/qemu-$guest; done;;
lib*:*/.emulator*)
    mkdir -p $3/usr/lib/x86_64-linux-gnu
    touch $3/usr/lib/x86_64-linux-gnu/$name;;
libc6:*)
    mkdir -p $3/lib
    ln -s /lib/real.so $3/lib/absolute.so;;
esac
"""
# One library leads to another one, as happens where neither is installed.
LDD = """
there=$(dirname $1)/../lib/x86_64-linux-gnu
if [ ! -e $there/libglib2.0-0 ]; then echo "        libglib-2.0.so.0 => not found"
elif [ ! -e $there/libpcre2-8-0 ]; then echo "        libpcre2-8.so.0 => not found"
fi
echo "        libc.so.6 => /lib/libc.so.6 (0x1)"
[ -z "$UNKNOWN_LIBRARY" ] || echo "        libsurprise.so.9 => not found"
"""
PIP = """
import shutil
name = words[-1].partition("==")[0]
folder = words[words.index("--dest") + 1]
for wheel in Path(os.environ["WHEELS"]).glob(f"{name}-*.whl"):
    shutil.copy(wheel, folder)
"""
QEMU = """
print(os.environ["TRIAL"])
"""
# The pins with checksums of the wheels that the test has made.
DRIVER = """
import json, os, sys
from pathlib import Path
import msgspec
import edgekit.labs.emulated.pins as module
real = module.pins()
sums = json.loads(os.environ["SUMS"])
wheels = {name: msgspec.structs.replace(wheel, sha256=sums[name]) for name, wheel in real.wheels.items()}
module.pins = lambda: msgspec.structs.replace(real, wheels=wheels)
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.setup import set_up
from edgekit_runtime.errors import EdgekitError
try:
    print(msgspec.json.encode(set_up(Lab(Path(sys.argv[1])))).decode())
except EdgekitError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


class Stage:
    """A folder with the stand-ins, and set-ups that run among them in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = Lab(folder / "lab")
        self.log = folder / "calls"
        programs, self.wheels = folder / "bin", folder / "wheels"
        programs.mkdir()
        (folder / "pip").mkdir()
        head = HEAD.format(python=sys.executable)
        bodies = {"bin/apt-get": head + APT, "bin/dpkg": SHELL + DPKG, "bin/ldd": SHELL + LDD}
        for name, body in {**bodies, "qemu": head + QEMU, "pip/__main__.py": head + PIP}.items():
            (folder / name).write_text(body)
            (folder / name).chmod(0o755)
        (folder / "pip" / "__init__.py").touch()
        (programs / "env").symlink_to("/usr/bin/env")
        (programs / "cc").write_text("#!/bin/sh\necho cc >> $CALLS\nwhile [ $1 != -o ]; do shift; done\n/usr/bin/touch $2\n")
        (programs / "cc").chmod(0o755)
        (folder / "driver.py").write_text(DRIVER)
        self.wheels.mkdir()
        sums = {}
        for name, wheel in pins().wheels.items():
            path = self.wheels / f"{name}-{wheel.version}-cp311-none-any.whl"
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(f"{name}/__init__.py", "")
            sums[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        libraries = {library.package: library.version for library in pins().libraries.values()}
        versions = {name: wheel.version for name, wheel in pins().wheels.items()}
        self.environment = {
            "PATH": str(programs),
            "PYTHONPATH": os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)]),
            "CALLS": str(self.log),
            "QEMU": str(folder / "qemu"),
            "WHEELS": str(self.wheels),
            "SUMS": json.dumps(sums),
            "VERSIONS": json.dumps({**pins().emulator, **pins().userland, **libraries}),
            "TRIAL": json.dumps({"machine": "aarch64", **versions}),
        }

    def run(self, **changes: str) -> "subprocess.CompletedProcess[str]":
        self.log.write_text("")
        environment = {key: value for key, value in {**self.environment, **changes}.items() if value}
        command = [sys.executable, str(self.folder / "driver.py"), str(self.lab.folder)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def calls(self, *words: str) -> list[str]:
        """The calls of stand-ins with all of these words."""
        return [line for line in self.log.read_text().splitlines() if all(word in line for word in words)]

    def whole(self) -> bool:
        """Whether the lab is as a set-up leaves it, with nothing beside."""
        left = {path.name for path in self.lab.folder.iterdir()}
        return left == {".lock", "boards", "emulator", "finished", "plugins", "runtime", "site", "sysroot"}


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


STEPS = ["emulator", "userland", "packages", "plugin", "trial"]


def test_from_nothing(stage):
    done = stage.run()
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["made"] == [step["name"] for step in made["steps"]] == STEPS
    assert made["counting"]
    assert made["most_bytes"] >= made["size_bytes"] > 0
    parts = {part["name"]: part for step in made["steps"] for part in step["parts"]}
    assert set(pins().userland) | set(pins().wheels) | {"qemu-user", "libglib2.0-0", "libpcre2-8-0"} == set(parts)
    assert parts["libc6"]["version"] == "1:2.36+dfsg-3+deb12u4"
    assert all(len(part["sha256"]) == 64 for part in parts.values())
    assert stage.whole()
    # Emulators of other processors are not kept, nor what only people read; links do not lead out to this machine.
    assert {path.name for path in (stage.lab.emulator / "usr/bin").iterdir()} == {"qemu-aarch64", "qemu-x86_64"}
    assert not list(stage.lab.folder.glob("*/usr/share/doc/*"))
    assert (stage.lab.sysroot / "lib/absolute.so").readlink() == Path("real.so")
    again = stage.run()
    assert json.loads(again.stdout)["made"] == []
    assert stage.calls() == []


@pytest.mark.parametrize(
    "moment",
    [
        "Error-Mode=any update",
        "--print-uris download qemu-user",
        "download qemu-user=",
        "download libpcre2-8-0=",
        "download libc6=",
        "dpkg -x",
        "ldd",
        "numpy==",
        "msgspec==",
        "qemu-aarch64",
    ],
    ids=["lists", "offers", "emulator", "library", "userland", "unpack", "ldd", "first-wheel", "last-wheel", "trial"],
)
def test_a_set_up_that_was_killed_goes_on_where_it_was(stage, moment):
    killed = stage.run(KILL_AT=moment)
    assert killed.returncode == -signal.SIGKILL
    finished = {path.stem for path in stage.lab.markers.glob("*.json")}
    assert finished != set(STEPS)
    fetched = {path.name for path in stage.lab.downloads.glob("*.*") if path.suffix in (".deb", ".whl")}
    done = stage.run()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["made"] == [name for name in STEPS if name not in finished]
    assert stage.whole()
    if "packages" in finished:
        assert not stage.calls("__main__.py")
    if {"emulator", "userland"} <= finished:
        assert not stage.calls("apt-get")
    # What lay there whole was not fetched again.
    for name in fetched:
        assert not [call for call in stage.calls("download", f" {name.partition('_')[0]}=") if "arm64" in name and "arm64" in call]
    assert not [
        call for call in stage.calls("__main__.py") if any(name.startswith(call.rpartition(" ")[2][:5]) for name in fetched)
    ]


def test_changed_pins_remake_what_they_concern(stage):
    assert stage.run().returncode == 0
    wheel = next(stage.wheels.glob("msgspec-*"))
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("msgspec/more.py", "")
    sums = {**json.loads(stage.environment["SUMS"]), "msgspec": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    done = stage.run(SUMS=json.dumps(sums))
    assert json.loads(done.stdout)["made"] == ["packages", "trial"]
    assert (stage.lab.site / "msgspec/more.py").exists()
    assert not stage.calls("apt-get")


def test_a_lab_folder_that_lost_a_part_gets_it_back(stage):
    assert stage.run().returncode == 0
    shutil.rmtree(stage.lab.sysroot)
    assert json.loads(stage.run().stdout)["made"] == ["userland"]
    assert stage.whole()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"PATH": "/nowhere"}, "LabError: set up the lab: there is no dpkg here, which unpacks .* container of Debian 12"),
        ({"OFFLINE": "1"}, "Temporary failure resolving; see that this machine reaches its apt sources, and run the set-up again"),
        ({"DAMAGED": "1"}, r"\.deb is not what the signed lists of packages say; run the set-up again"),
        ({"ARCHITECTURE": "riscv64"}, "this machine is riscv64; it runs on x86-64 and on 64-bit ARM"),
        ({"UNKNOWN_LIBRARY": "1"}, r"the emulator needs libsurprise\.so\.9, which this machine lacks; install them"),
        ({"VERSIONS": json.dumps({"qemu-user": "10.0"})}, r"offer qemu-user 10\.0, the lab needs 7\.2; .* Debian 12"),
        ({"VERSIONS": json.dumps({})}, "Unable to locate package .* the lab is made of packages of Debian 12"),
        ({"WHEELS": "/nowhere"}, r"fetch numpy 2\.\S+ for aarch64: what pip fetched is not the file that the lab was made with"),
        ({"TRIAL": '{"machine": "x86_64"}'}, "the emulated Python has .*x86_64.* expected .*aarch64"),
    ],
    ids=["no-dpkg", "offline", "damaged", "riscv", "library", "other-release", "no-package", "no-wheel", "trial"],
)
def test_what_goes_wrong_is_told_in_one_line(stage, changes, told):
    done = stage.run(**changes)
    assert done.returncode == 1
    line = done.stderr.strip()
    assert "Traceback" not in line
    assert len(line.splitlines()) == 1
    assert re.search(told, line), line


@pytest.mark.parametrize("trouble", ["OFFLINE", "DAMAGED"])
def test_trouble_that_is_over_leaves_nothing_behind(stage, trouble):
    assert stage.run(**{trouble: "1"}).returncode == 1
    done = stage.run()
    assert done.returncode == 0, done.stderr
    assert stage.whole()


def test_without_a_compiler_boards_are_numeric_only_and_a_later_set_up_compiles(stage):
    compiler = stage.folder / "bin" / "cc"
    compiler.rename(stage.folder / "cc")
    made = json.loads(stage.run().stdout)
    assert not made["counting"]
    assert "numeric only" in made["numeric_only"]
    assert "plugin" not in made["made"]
    (stage.folder / "cc").rename(compiler)
    made = json.loads(stage.run().stdout)
    assert made["counting"]
    assert made["made"] == ["plugin"]


def test_two_set_ups_at_once_do_the_work_once(stage):
    command = [sys.executable, str(stage.folder / "driver.py"), str(stage.lab.folder)]
    both = [
        subprocess.Popen(command, env=stage.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    made = []
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        made.append(json.loads(out)["made"])
    assert sorted(made) == [[], STEPS]
    assert len(stage.calls("numpy==")) == 1


def test_a_mirror_that_moved_on_is_asked_anew(stage, monkeypatch):
    """The lists say one revision, the mirror has the next: the lists are fetched again."""
    for key, value in stage.environment.items():
        if key not in ("PYTHONPATH", "PATH"):
            monkeypatch.setenv(key, value)
    monkeypatch.setenv("PATH", f"{stage.folder / 'bin'}:{os.environ['PATH']}")
    stage.log.write_text("")
    apt = Apt(stage.lab.downloads / "apt", "arm64")
    failures = iter([LabError("404 Not Found")])
    real = Apt.fetch

    def moved(self, packages, folder):
        for failure in failures:
            raise failure
        real(self, packages, folder)

    monkeypatch.setattr(Apt, "fetch", moved)
    fetched = fetch_debs(stage.lab, apt, {"zlib1g": "1.2.13"}, lambda *_: None)
    assert [path.exists() for _, path in fetched] == [True]
    assert len(stage.calls("apt-get", " update")) == 2


def test_apt_keeps_to_its_own_folder_and_knows_no_installed_package(tmp_path):
    options = Apt(tmp_path, "arm64").options()
    settings = dict(word.split("=", 1) for word in options if word != "-o")
    assert options[::2] == ["-o"] * len(settings)
    for key in ("Dir::State", "Dir::State::status", "Dir::Cache"):
        assert Path(settings[key]).is_relative_to(tmp_path)
    assert settings["APT::Architecture"] == settings["APT::Architectures::"] == "arm64"
    # The machine's sources and keys, its proxy and what it trusts stay as they are.
    assert not {key for key in settings if key.startswith(("Dir::Etc", "Acquire::AllowInsecure", "APT::Get::AllowUn"))}


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("1:7.2+dfsg-7+deb12u18+b3", "7.2"),
        ("2.36-9+deb12u14", "2.36"),
        ("1:1.2.13.dfsg-1", "1.2.13"),
        ("2:6.2.1+dfsg1-1.1", "6.2.1"),
        ("1.0-2", "1.0"),
        ("3.11.2-6+deb12u9", "3.11.2"),
        ("2.0", "2.0"),
    ],
)
def test_upstream_versions(version, upstream):
    assert upstream_version(version) == upstream


def test_the_pins_agree_with_the_constraints_and_cover_all_of_the_lab():
    constraints = Path(__file__).parents[2] / "constraints.txt"
    pinned = dict(line.split("==") for line in constraints.read_text().splitlines() if "==" in line)
    assert {name: wheel.version for name, wheel in pins().wheels.items()} == {name: pinned[name] for name in pins().wheels}
    assert f"python{pins().python}-minimal" in pins().userland
    assert msgspec.json.decode(msgspec.json.encode(pins()), type=type(pins())) == pins()


def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path):
    path = tmp_path / "evil-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.py", "")
    (tmp_path / "site").mkdir()
    with pytest.raises(LabError, match=r"evil-1-py3-none-any\.whl holds '\.\./outside\.py', which leads out"):
        unpack_wheel(path, tmp_path / "site")
    assert not (tmp_path / "outside.py").exists()


def test_without_dpkg_it_is_said_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match=textwrap.shorten("there is no dpkg here", 80)):
        host_architecture()


def test_programs_that_run_in_threads_are_ended_with_the_set_up():
    with ThreadPoolExecutor(1) as pool:
        sleeping = pool.submit(run_tool, ["sleep", "600"], "wait")
        while not sleeping.done():
            stop_tools()
        with pytest.raises(LabError, match="wait: sleep ended with -9"):
            sleeping.result()
