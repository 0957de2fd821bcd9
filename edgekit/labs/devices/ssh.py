"""One SSH connection, driven from plain code: asyncssh runs in a thread of its own.

Host keys have to be known beforehand, and keys are the only way in: nothing is accepted silently, and no password is asked for.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from edgekit.labs.devices.address import Device
from edgekit.labs.devices.ssh_errors import connecting_failed, missing_asyncssh
from edgekit_runtime.errors import ConnectionLostError, DeviceError, WorkerCrashedError

__all__ = ["Connection", "Ended", "SshChannel"]

T = TypeVar("T")
CONNECT_TIMEOUT_S = 20
# A board whose cable was pulled is given up after some 20 seconds without an answer.
KEEPALIVE_S = 5
KEEPALIVES = 4
END_TIMEOUT_S = 10.0
LAST_WORDS = 20
# What a shell that waits for a program says where that was killed: 128 and the signal's number.
SHELLS_KILLED = 137
# Within a chunk, requests are on their way at the same time, and may arrive in any order.
CHUNK_BYTES = 1 << 20


class Ended(NamedTuple):
    """How a command ended: its exit status (``None`` for a signal), standard output and standard error."""

    status: int | None
    out: bytes
    err: bytes


class Connection:
    """An SSH connection.

    Args:
        name: What messages call the device.
        device: Where it is.

    Attributes:
        sent_bytes: Bytes of files that were sent so far.

    Raises:
        MissingExtraError: asyncssh is not installed.
        DeviceError: The device is not reached, is not known, or does not let us in; says what to do.
    """

    def __init__(self, name: str, device: Device) -> None:
        try:
            import asyncssh
        except ImportError as error:
            raise missing_asyncssh() from error
        self.name = name
        self.sent_bytes = 0
        self._asyncssh = asyncssh
        self._losses = (asyncssh.DisconnectError, OSError, EOFError, asyncio.CancelledError, TimeoutError)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"ssh {name}", daemon=True)
        self._thread.start()
        self._connection: Any = None
        options: dict[str, Any] = {"username": device.user, "port": device.port}
        options["client_keys"] = [str(Path(device.identity).expanduser())] if device.identity else None
        try:
            self._connection = self._wait(
                asyncssh.connect(
                    device.host,
                    **{key: value for key, value in options.items() if value is not None},
                    password=None,
                    preferred_auth="publickey",
                    connect_timeout=CONNECT_TIMEOUT_S,
                    login_timeout=CONNECT_TIMEOUT_S,
                    keepalive_interval=KEEPALIVE_S,
                    keepalive_count_max=KEEPALIVES,
                )
            )
        except BaseException as error:
            self.close()
            if isinstance(error, (asyncssh.Error, OSError, ValueError)):
                raise connecting_failed(name, device, error) from error
            raise

    @property
    def lost(self) -> bool:
        """Whether it is gone."""
        return self._connection is None or bool(self._connection.is_closed())

    def run(self, command: str, given: bytes = b"") -> Ended:
        """Runs a command of the device's shell to its end.

        Raises:
            ConnectionLostError: The connection broke meanwhile.
        """

        async def work() -> Ended:
            done = await self._connection.run(command, input=given, encoding=None, check=False)
            if done.exit_status is None:
                raise EOFError
            return Ended(done.exit_status if done.exit_signal is None else None, done.stdout, done.stderr)

        return self._guarded("run a command", work())

    def send(self, parts: Iterable[tuple[Path, str, int]], on_bytes: Callable[[int], None]) -> None:
        """Sends files, or the rest of them.

        Args:
            parts: Each file here, its path there, and how many bytes of it are there already.
            on_bytes: Told how many more bytes are there.

        Raises:
            DeviceError: The device takes no files.
            ConnectionLostError: The connection broke.
        """

        async def work() -> None:
            async with self._connection.start_sftp_client() as sftp:
                for source, target, begun in parts:
                    # What an earlier connection wrote of its last chunk may have holes.
                    at = max(0, begun - CHUNK_BYTES)
                    flags = self._asyncssh.FXF_WRITE | self._asyncssh.FXF_CREAT | (0 if at else self._asyncssh.FXF_TRUNC)
                    with source.open("rb") as data:
                        data.seek(at)
                        async with sftp.open(target, flags, encoding=None) as file:
                            while chunk := data.read(CHUNK_BYTES):
                                await file.write(chunk, at)
                                at += len(chunk)
                                self.sent_bytes += len(chunk)
                                on_bytes(len(chunk))

        self._guarded("send files", work())

    def channel(self, command: str) -> "SshChannel":
        """Starts a command whose standard input and output are written and read while it runs."""
        process = self._guarded("start a worker", self._connection.create_process(command, encoding=None))
        return SshChannel(self, process)

    def close(self) -> None:
        """Ends the connection and its thread. Never raises."""
        if self._connection is not None:
            self._connection.close()
            with contextlib.suppress(Exception):
                self._wait(asyncio.wait_for(self._connection.wait_closed(), END_TIMEOUT_S))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.close()

    def _guarded(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        """The outcome of some work over the connection; every way in which one breaks is one error."""
        if self._loop.is_closed():
            work.close()
            raise ConnectionLostError(f"{what} on {self.name}: the connection is closed")
        try:
            return self._wait(work)
        except self._losses as error:
            reason = " ".join(str(error).split())
            raise ConnectionLostError(
                f"{what} on {self.name}: the connection was lost{f' ({reason})' if reason else ''}"
            ) from error
        except self._asyncssh.SFTPError as error:
            raise DeviceError(
                f"{what} on {self.name}: its file transfer (SFTP) refused: {error.reason}; look for room and permissions there"
            ) from error
        except self._asyncssh.ChannelOpenError as error:
            if self.lost:
                raise ConnectionLostError(f"{what} on {self.name}: the connection was lost ({error.reason})") from error
            raise DeviceError(f"{what} on {self.name}: its SSH server refused: {error.reason}") from error

    def _wait(self, work: Awaitable[T]) -> T:
        future = asyncio.run_coroutine_threadsafe(_awaited(work), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class SshChannel:
    """The standard input and output of a command on a device.

    Args:
        connection: Over which.
        process: asyncssh's, in bytes.
    """

    def __init__(self, connection: Connection, process: Any) -> None:
        self._connection = connection
        self._process = process
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), connection._loop)

    def write(self, data: bytes) -> None:
        """Sends all of `data`.

        Raises:
            WorkerCrashedError: The command ended by itself.
            ConnectionLostError: The connection broke.
        """

        async def work() -> None:
            try:
                self._process.stdin.write(data)
                await self._process.stdin.drain()
            except (OSError, self._connection._asyncssh.Error) as error:
                raise await self._ended() from error

        self._connection._guarded("ask the worker", work())

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; raises as `write` does."""

        async def work() -> bytes:
            try:
                data: bytes = await self._process.stdout.readexactly(count)
            except (asyncio.IncompleteReadError, OSError, self._connection._asyncssh.Error) as error:
                raise await self._ended() from error
            return data

        return self._connection._guarded("ask the worker", work())

    def close(self) -> None:
        """Ends the command. Never raises."""

        async def work() -> None:
            self._process.stdin.write_eof()
            try:
                await asyncio.wait_for(self._process.wait_closed(), END_TIMEOUT_S)
            finally:
                self._process.close()

        if not self._connection.lost:
            with contextlib.suppress(Exception):
                self._connection._guarded("end the worker", work())
        self._listener.cancel()

    async def _ended(self) -> ConnectionLostError:
        """What it means that nothing more comes: the command ended, or the connection did."""
        name = self._connection.name
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait_closed(), END_TIMEOUT_S)
        if self._process.exit_signal is None and self._process.exit_status is None:
            return ConnectionLostError(f"ask the worker on {name}: the connection was lost")
        signal, status = self._process.exit_signal, self._process.exit_status
        how = signal[0] if signal else f"exit status {status}"
        words = f": {' '.join(self._said[-1].split())}" if self._said else ""
        hint = "; the system kills what takes more memory than there is" if how == "KILL" or status == SHELLS_KILLED else ""
        return WorkerCrashedError(f"the worker on {name} ended by itself ({how}{words}){hint}")

    async def _listen(self) -> None:
        with contextlib.suppress(self._connection._asyncssh.Error, OSError):
            async for line in self._process.stderr:
                if line.strip():
                    self._said.append(line.decode(errors="replace").strip())


async def _awaited(work: Awaitable[T]) -> T:
    """A coroutine of anything that can be awaited: what asyncssh gives is not always one."""
    return await work
