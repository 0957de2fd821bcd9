"""Boards: what an emulated processor is, what its system says of it, and the sizes of its caches."""

import tomllib
from importlib import resources

import msgspec

from edgekit_runtime.errors import LabError

__all__ = ["Board", "Cache", "board_names", "load_board"]


class Cache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One level of data cache.

    Attributes:
        size_bytes: Its size, as far as one core can use it.
        ways: Its associativity.
    """

    size_bytes: int
    ways: int


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One board.

    Attributes:
        name: Its name; a target's where there is one for it.
        description: What it is, in a sentence.
        architecture: ``aarch64`` or ``x86_64``.
        cpu: The processor, as QEMU calls it.
        isa: Instruction sets that matter to int8 and that it has, as `edgekit_runtime.machine` names them.
        cores: Cores of the board. Only one is emulated.
        memory_bytes: Memory of the smallest board that is sold under the name.
        line_bytes: Length of a cache line.
        l1: Data cache of a core.
        l2: The cache behind it.
        cpuinfo: What Linux says of one core in /proc/cpuinfo on it.
    """

    name: str
    description: str
    architecture: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    line_bytes: int
    l1: Cache
    l2: Cache
    cpuinfo: str


def board_names() -> list[str]:
    """Names of the boards that can be emulated."""
    files = resources.files("edgekit.labs.boards").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_board(name: str) -> Board:
    """A board by name.

    Raises:
        LabError: There is none of that name.
    """
    if name not in board_names():
        raise LabError(f"load board {name!r}: unknown; there are {', '.join(board_names())}")
    text = (resources.files("edgekit.labs.boards") / f"{name}.toml").read_text("utf-8")
    return msgspec.convert({"name": name, **tomllib.loads(text)}, Board)
