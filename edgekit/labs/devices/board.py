"""What a board told of itself before anything was put on it, and whether the runtime can run there."""

import msgspec

from edgekit_runtime.errors import DeviceError

__all__ = ["Board", "check_board", "wheel_platforms"]

OLDEST_PYTHON = (3, 11)
# What pip calls machines, by what Linux calls them.
WHEEL_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
# The oldest glibc that wheels are still made for.
OLDEST_GLIBC = 17
# edgekit-runtime's own requirements; what is older there is not used.
NEEDED = {"numpy": (2, 0), "onnxruntime": (1, 22), "msgspec": (0, 19)}


class Board(msgspec.Struct, frozen=True):
    """A board.

    Attributes:
        shell_machine: The machine as its shell sees it.
        machine: The machine as its Python sees it.
        system: ``Linux``, ``Darwin``, …
        python: Python's version.
        implementation: ``CPython``, …
        bits: Of a pointer.
        libc: Name and version of the C library; empty where it is not glibc.
        packages: Versions of the packages that the runtime needs, as far as they are there.
        root: Where everything of ours goes there.
        free_bytes: Room on the disk of the home folder.
    """

    shell_machine: str
    machine: str
    system: str
    python: tuple[int, int, int]
    implementation: str
    bits: int
    libc: tuple[str, str]
    packages: dict[str, str]
    root: str
    free_bytes: int

    @property
    def emulated(self) -> bool:
        """Whether its Python runs under an emulator: it sees another processor than the shell that started it."""
        seen, real = (WHEEL_MACHINES.get(name.lower()) for name in (self.machine, self.shell_machine))
        return seen is not None and real is not None and seen != real

    @property
    def lacking(self) -> list[str]:
        """Packages that the runtime needs, and that are missing or too old."""
        return [name for name, oldest in NEEDED.items() if _release(self.packages.get(name, "0")) < oldest]


def check_board(name: str, board: Board) -> None:
    """Refuses a board that the runtime cannot run on.

    Raises:
        DeviceError: Its Python is too old, or packages are missing and there are no wheels for it; says the way out.
    """
    what = f"put the runtime on {name}"
    if board.python[:2] < OLDEST_PYTHON:
        raise DeviceError(
            f"{what}: its Python is {'.'.join(map(str, board.python))}, needed is {'.'.join(map(str, OLDEST_PYTHON))} or newer; "
            "Raspberry Pi OS has it since bookworm (2023); for another one, edgekit device add … --python PATH"
        )
    if board.lacking:
        wheel_platforms(name, board)


def wheel_platforms(name: str, board: Board) -> list[str]:
    """The platforms whose wheels run there, newest first, as pip's ``--platform`` takes them.

    Raises:
        DeviceError: There are no wheels for such a board.
    """
    what = f"put {', '.join(board.lacking) or 'packages'} on {name}"
    if board.bits == 32:
        raise DeviceError(
            f"{what}: its Python is a 32-bit one ({board.machine}), and onnxruntime has no wheels for it; every Raspberry Pi since "
            "the 3 and the Zero 2 W runs the 64-bit Raspberry Pi OS; install that, or onnxruntime there by your own means"
        )
    machine = WHEEL_MACHINES.get(board.machine.lower())
    libc, version = board.libc
    minor = version.partition(".")[2].partition(".")[0]
    if board.system != "Linux" or machine is None or libc != "glibc" or not minor.isdigit():
        kind = f"{board.system} on {board.machine} with {libc or 'a C library other than glibc'}"
        raise DeviceError(f"{what}: wheels from here are for Linux with glibc, it is {kind}; install them there with pip")
    if board.implementation != "CPython":
        raise DeviceError(
            f"{what}: its Python is {board.implementation}; the wheels are for CPython; edgekit device add … --python PATH"
        )
    return [f"manylinux_2_{glibc}_{machine}" for glibc in range(int(minor), OLDEST_GLIBC - 1, -1)] + [f"manylinux2014_{machine}"]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
