"""What a program finds on an emulated board in place of this machine's files: its processor, its memory, its libraries."""

import hashlib
import shutil
import tempfile
from pathlib import Path

from edgekit.labs.emulated.boards import Board
from edgekit.labs.emulated.folder import Lab

__all__ = ["make_overlay"]


def make_overlay(lab: Lab, board: Board) -> Path:
    """The folder to which the emulator turns for every absolute path, before it turns to this machine; made where it is missing.

    QEMU 7.2 hands the host's /proc/cpuinfo to the program inside, and onnxruntime for ARM crashes on an x86 one. Files of cgroups
    tell it the board's memory, and that there is one core to run on; nobody enforces either.
    """
    files = {
        "proc/cpuinfo": board.cpuinfo.lstrip("\n") + "\n",
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{board.memory_bytes}\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
        "sys/devices/system/cpu/online": f"0-{board.cores - 1}\n",
    }
    links = ("etc", "lib", "usr") if board.architecture == "aarch64" else ()
    key = hashlib.sha256(repr((files, links)).encode()).hexdigest()[:16]
    overlays = lab.folder / "boards"
    folder = overlays / f"{board.name}-{key}"
    if folder.is_dir():
        return folder
    overlays.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".aside-", dir=overlays))
    try:
        for name, text in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text(text, "utf-8")
        for name in links:
            (aside / name).symlink_to(Path("..", "..", lab.sysroot.name, name))
        if not folder.is_dir():
            aside.replace(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process made the same one meanwhile
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder
