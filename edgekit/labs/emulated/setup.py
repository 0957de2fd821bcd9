"""Setting the lab up: emulator, userland, packages and plugin, each a step of its own that a killed set-up does not repeat.

A step builds aside and swaps its folder in; then a marker says that it is finished, and with which pins. What is fetched lies in
the lab's folder until all is done, so that nothing is fetched twice. Steps that do not need each other are done at the same time.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from time import perf_counter

import msgspec

from edgekit.labs.emulated.apt import Package
from edgekit.labs.emulated.debs import Advance, install_emulator, install_userland
from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.pins import pins
from edgekit.labs.emulated.plugin import build_plugin
from edgekit.labs.emulated.steps import Part, Step, built_aside, finished_step, mark_finished, step_key
from edgekit.labs.emulated.tools import stop_tools
from edgekit.labs.emulated.trial import try_out
from edgekit.labs.emulated.wheels import fetch_wheel, find_wheel, unpack_wheel
from edgekit.progress import Progress, Quiet
from edgekit_runtime.errors import LabError, OutputError

__all__ = ["SetUp", "need_lab", "set_up", "unfinished"]

POLL_S = 0.1


class SetUp(msgspec.Struct, frozen=True):
    """What a set-up came to.

    Attributes:
        folder: The lab.
        steps: All steps, with how long each took when it was done.
        made: Names of those that were done now; the others were finished before.
        seconds: How long it took now.
        size_bytes: What the lab's files weigh.
        most_bytes: What they weighed at most meanwhile, downloads included.
        counting: Whether boards count instructions.
        numeric_only: Why not; ``None`` where they do.
    """

    folder: str
    steps: list[Step]
    made: list[str]
    seconds: float
    size_bytes: int
    most_bytes: int
    counting: bool
    numeric_only: str | None


def set_up(lab: Lab, progress: Progress | None = None) -> SetUp:
    """Sets the lab up, or what is missing of it.

    Raises:
        LabError: A program is missing, or the package archive or index cannot be reached, or offers something else.
        OutputError: The folder cannot be written to.
    """
    progress = progress or Quiet()
    start = perf_counter()
    made: list[str] = []
    most_bytes = 0
    with _told(lab.folder), _alone(lab, progress):
        for number, (what, steps) in enumerate(_stages(lab), 1):
            due = {name: work for name, work in steps.items() if not finished_step(lab, name)}
            if due:
                progress.stage(f"{number}/{len(_stages(lab))} {what}")
                made += _side_by_side(lab, due, progress)
                most_bytes = max(most_bytes, lab.size_bytes())
        shutil.rmtree(lab.downloads, ignore_errors=True)
        numeric_only = _numeric_only(lab)
        size_bytes = lab.size_bytes()
    return SetUp(
        folder=str(lab.folder),
        steps=[step for name in _names(lab) if (step := finished_step(lab, name))],
        made=made,
        seconds=perf_counter() - start,
        size_bytes=size_bytes,
        most_bytes=max(most_bytes, size_bytes),
        counting=numeric_only is None,
        numeric_only=numeric_only,
    )


def unfinished(lab: Lab) -> list[str]:
    """Names of steps that boards cannot do without and that are not finished."""
    return [name for name in _names(lab) if name != "plugin" and not finished_step(lab, name)]


def need_lab(lab: Lab, what: str) -> None:
    """Makes sure that the lab is set up.

    Raises:
        LabError: It is not, or only in part, or for another release of edgekit.
    """
    missing = unfinished(lab)
    if missing:
        state = "is not set up" if len(missing) == len(_names(lab)) - 1 else f"lacks {', '.join(missing)}"
        raise LabError(f"{what}: the lab of emulated boards in {lab.folder} {state}; run edgekit lab setup")


Work = Callable[[Advance], list[Part] | None]


def _stages(lab: Lab) -> list[tuple[str, dict[str, Work]]]:
    """What is done one after the other: words, and the steps of each by name."""

    def emulator(advance: Advance) -> list[Part]:
        with built_aside(lab.emulator) as folder:
            return _parts(install_emulator(lab, folder, advance))

    def userland(advance: Advance) -> list[Part]:
        with built_aside(lab.sysroot) as folder:
            return _parts(install_userland(lab, folder, advance))

    def packages(advance: Advance) -> list[Part]:
        return _install_wheels(lab, advance)

    def plugin(_: Advance) -> list[Part] | None:
        with contextlib.suppress(LabError):  # said at the end, as long as it stays so
            build_plugin(lab)
            return []
        return None

    def trial(_: Advance) -> list[Part]:
        try_out(lab)
        return []

    return [
        (
            "fetch and unpack the emulator, and Python with onnxruntime for 64-bit ARM",
            {"emulator": emulator, "userland": userland, "packages": packages},
        ),
        ("compile the counting plugin", {"plugin": plugin}),
        ("try the emulated Python out", {"trial": trial}),
    ]


def _names(lab: Lab) -> list[str]:
    return [name for _, steps in _stages(lab) for name in steps]


def _side_by_side(lab: Lab, due: dict[str, Work], progress: Progress) -> list[str]:
    """Does steps at the same time and marks each that is finished; gives their names.

    One that fails keeps no other from being finished; then its error is raised.
    """
    told: dict[str, tuple[int, int]] = {}

    def do(name: str) -> bool:
        def advance(done: int, total: int) -> None:
            told[name] = (done, total)
            progress.advance(*map(sum, zip(*told.copy().values(), strict=True)))

        began = perf_counter()
        parts = due[name](advance)
        if parts is not None:
            mark_finished(lab, Step(name, step_key(name), perf_counter() - began, parts))
        return parts is not None

    with ThreadPoolExecutor(len(due)) as pool:
        doing = {name: pool.submit(do, name) for name in due}
        try:
            wait(doing.values())
        except BaseException:
            while wait(doing.values(), POLL_S).not_done:
                stop_tools()
            raise
    return [name for name, future in doing.items() if future.result()]


def _install_wheels(lab: Lab, advance: Advance) -> list[Part]:
    """Fetches and unpacks the Python packages."""
    wheels, parts = pins().wheels, []
    with built_aside(lab.site) as folder:
        for done, (name, wheel) in enumerate(wheels.items()):
            advance(done, len(wheels))
            lab.downloads.mkdir(parents=True, exist_ok=True)
            path = find_wheel(name, wheel, lab.downloads)
            if path is None:
                with tempfile.TemporaryDirectory(prefix=".aside-", dir=lab.downloads) as aside:
                    fetched = fetch_wheel(name, wheel, pins().python, Path(aside))
                    path = fetched.replace(lab.downloads / fetched.name)
            unpack_wheel(path, folder)
            parts.append(Part(name, wheel.version, wheel.sha256))
        advance(len(wheels), len(wheels))
    return parts


def _numeric_only(lab: Lab) -> str | None:
    """Why the lab counts no instructions; ``None`` where it does."""
    try:
        build_plugin(lab)
    except LabError as error:
        return str(error)
    return None


def _parts(packages: list[Package]) -> list[Part]:
    return [Part(package.name, package.version, package.sha256) for package in packages]


@contextlib.contextmanager
def _alone(lab: Lab, progress: Progress) -> Iterator[None]:
    """Waits until no other process sets the same lab up. The lock goes with the process that holds it."""
    import fcntl

    lab.folder.mkdir(parents=True, exist_ok=True)
    with (lab.folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.stage("wait for another set-up of the same lab")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"set up the lab in {folder}: {error.strerror or error}; make room, or set EDGEKIT_CACHE to a folder that is writable"
        ) from error
