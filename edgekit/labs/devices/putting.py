"""Putting files on a board: only what is not there, continued where a lost connection left off, standing all at once."""

import shlex
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from edgekit.labs.devices import board_side
from edgekit.labs.devices.address import Device
from edgekit.labs.devices.board import Board
from edgekit.labs.devices.payload import Payload
from edgekit.labs.devices.ssh import Connection
from edgekit.progress import Progress
from edgekit_runtime.errors import DeviceError

__all__ = ["probe", "put", "shell_words"]

ROOT = ".edgekit"
SHELL = "edgekit-shell:"
ATTEMPTS = 2
# What is unpacked takes more room than what is sent; wheels of onnxruntime and numpy grow to about four times their size.
GROWTH = {"settle": 1.0, "unpack": 5.0}


def probe(connection: Connection, device: Device) -> Board:
    """What the board at the other end is and has.

    Raises:
        DeviceError: It has no such Python.
        ConnectionLostError: The connection broke.
    """
    told, out = _ask(connection, device.python, {"do": "probe", "root": ROOT})
    shell = next((line.removeprefix(SHELL) for line in out.splitlines() if line.startswith(SHELL)), "")
    return msgspec.convert({**told, "shell_machine": shell}, Board)


def put(
    connection: Connection,
    python: str,
    board: Board,
    payload: Payload,
    progress: Progress,
    how: Literal["settle", "unpack"] = "settle",
) -> str:
    """Sees to it that a payload is on the board, and sends what is missing.

    Args:
        connection: To the board.
        python: Its Python.
        board: What it is.
        payload: The files.
        progress: Told of what is sent.
        how: Whether the files are what is to be there, or wheels to be unpacked.

    Returns:
        The absolute path of its folder there.

    Raises:
        DeviceError: There is no room, or no permission, or the files arrive damaged again and again.
        ConnectionLostError: The connection broke; what was sent so far is not sent again.
    """
    order: dict[str, Any] = {"root": board.root, "folder": payload.folder, "files": payload.entries}
    for _ in range(ATTEMPTS):
        wanted, _ = _ask(connection, python, {"do": "wanted", **order})
        if not wanted["settled"]:
            _send(connection, board, payload, wanted["missing"], progress, GROWTH[how])
            damaged = _ask(connection, python, {"do": how, **order})[0]["damaged"]
            if damaged:
                continue
        return f"{board.root}/{payload.folder}"
    raise DeviceError(
        f"put {payload.folder} on {connection.name}: {len(damaged)} files arrived with another SHA-256, twice; "
        "look at the board's card (is it worn out?) and its power supply"
    )


def shell_words(python: str) -> str:
    """A Python's name or path for a shell; a home folder at its beginning is left to the shell."""
    return f"~/{shlex.quote(python[2:])}" if python.startswith("~/") else shlex.quote(python)


def _send(
    connection: Connection, board: Board, payload: Payload, missing: Mapping[str, int], progress: Progress, growth: float
) -> None:
    sizes = dict(payload.entries.values())
    sources = {sha: payload.sources[name] for name, (sha, _) in payload.entries.items()}
    rest = sum(sizes[sha] - begun for sha, begun in missing.items())
    needed = rest * growth
    if needed > board.free_bytes:
        raise DeviceError(
            f"put {payload.folder} on {connection.name}: it needs {needed / 1e6:.0f} MB, {board.free_bytes / 1e6:.0f} MB are free "
            f"there; make room (what edgekit keeps there is in {board.root})"
        )
    thing = payload.folder.rpartition("-")[0]
    progress.stage(f"send {thing} to {connection.name}: {len(missing)} files, {rest / 1e6:.1f} MB")
    sent = 0

    def on_bytes(count: int) -> None:
        nonlocal sent
        sent += count
        progress.advance(sent, rest)

    parts = [(sources[sha], f"{board.root}/incoming/{sha}", begun) for sha, begun in missing.items()]
    connection.send(parts, on_bytes)


def _ask(connection: Connection, python: str, order: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """A board's answer to an order, and everything that it printed besides."""
    what = f"ask {connection.name}"
    run = f"echo {SHELL}$(uname -m); exec {shell_words(python)} -"
    done = connection.run(f"sh -c {shlex.quote(run)}", board_side.script(order))
    out = done.out.decode(errors="replace")
    answers = [line.removeprefix(board_side.MARKER) for line in out.splitlines() if line.startswith(board_side.MARKER)]
    if not answers:
        said = (done.err.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise DeviceError(
            f"{what}: its Python ({python}) gave no answer, exit status {done.status}: {said}; name another one with "
            "edgekit device add … --python PATH"
        )
    answer = msgspec.json.decode(answers[-1])
    if "failed" in answer:
        raise DeviceError(f"{what} to {order['do']}: {answer['failed']}; look for room and permissions there")
    return answer["done"], out
