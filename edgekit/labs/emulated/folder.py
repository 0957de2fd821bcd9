"""Where the lab is kept."""

from pathlib import Path

import msgspec

__all__ = ["Lab", "lab_folder"]


class Lab(msgspec.Struct, frozen=True):
    """The lab's folder and what is where in it.

    Attributes:
        folder: The folder. Whether anything is in it is another question.
    """

    folder: Path

    @property
    def emulator(self) -> Path:
        """QEMU with the libraries that this machine lacks."""
        return self.folder / "emulator"

    @property
    def libraries(self) -> list[Path]:
        """Folders of those libraries."""
        return [path for base in ("usr/lib", "lib") for path in sorted((self.emulator / base).glob("*-linux-gnu"))]

    @property
    def sysroot(self) -> Path:
        """Python for arm64 with the system libraries it needs."""
        return self.folder / "sysroot"

    @property
    def site(self) -> Path:
        """Python packages for aarch64."""
        return self.folder / "site"

    @property
    def plugins(self) -> Path:
        """Compiled counting plugins, by their source."""
        return self.folder / "plugins"

    @property
    def markers(self) -> Path:
        """A file for each finished step of the set-up."""
        return self.folder / "finished"

    @property
    def downloads(self) -> Path:
        """What was fetched and is not unpacked yet; gone when the set-up is through."""
        return self.folder / "downloads"

    @property
    def bytecode(self) -> Path:
        """Compiled Python modules of the emulated interpreter: nothing is written beside anybody's sources."""
        return self.folder / "bytecode"

    def qemu(self, architecture: str) -> Path:
        """The emulator of an architecture."""
        return self.emulator / "usr" / "bin" / f"qemu-{architecture}"

    def python(self, version: str) -> Path:
        """The arm64 Python."""
        return self.sysroot / "usr" / "bin" / f"python{version}"

    def size_bytes(self) -> int:
        """What the files in it weigh."""
        return sum(path.lstat().st_size for path in self.folder.rglob("*") if path.is_symlink() or path.is_file())


def lab_folder() -> Path:
    """Where the lab is kept: ``lab`` in ``$EDGEKIT_CACHE``, or in ``edgekit`` in the user's cache folder."""
    from edgekit.search.ledger import ledger_folder

    return ledger_folder().parent / "lab"
