"""The counting plugin, compiled on this machine from `counting.c` when it is first used."""

import hashlib
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from edgekit.labs.emulated.folder import Lab
from edgekit.labs.emulated.tools import run_tool
from edgekit_runtime.errors import LabError

__all__ = ["build_plugin", "compiler", "counting_source"]

FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden")


def compiler() -> str | None:
    """The C compiler: ``$CC``, cc, gcc or clang; ``None`` where there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def counting_source() -> str:
    """The plugin's source."""
    return (resources.files("edgekit.labs.emulated") / "counting.c").read_text("utf-8")


def build_plugin(lab: Lab) -> Path:
    """The compiled plugin of this release's source; compiles it where it is not there yet.

    Raises:
        LabError: There is no compiler, or it failed: boards then run and compare numbers, but count nothing.
    """
    source = counting_source()
    path = lab.plugins / f"counting-{hashlib.sha256(source.encode()).hexdigest()[:16]}.so"
    if path.exists():
        return path
    program = compiler()
    if program is None:
        raise LabError(
            "compile the counting plugin: there is no C compiler (cc, gcc or clang), so the lab is numeric only: boards run models "
            "and compare outputs, and count no instructions; install one, such as Debian's gcc and libc6-dev"
        )
    lab.plugins.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".aside-", dir=lab.plugins) as aside:
        written, made = Path(aside) / "counting.c", Path(aside) / path.name
        written.write_text(source, "utf-8")
        run_tool([program, *FLAGS, "-o", str(made), str(written)], "compile the counting plugin")
        made.replace(path)
    return path
