"""The client of a worker, which runs on this machine, under an emulator or on a board: it asks, and hands on the answers."""

import subprocess
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import IO, Any, Protocol, TypeVar

import msgspec
import numpy as np

from edgekit_runtime import errors, wire
from edgekit_runtime.benchmark import Benchmark
from edgekit_runtime.errors import DeviceError, EdgekitError, WorkerCrashedError
from edgekit_runtime.fresh_process import exit_name
from edgekit_runtime.health import BoardHealth
from edgekit_runtime.selftest import SelfTest
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.wire_tensors import pack_feed, unpack_feed

__all__ = ["Channel", "PipeChannel", "RemoteModel", "Worker"]

T = TypeVar("T", bound=wire.Reply)
LAST_WORDS = 20
END_TIMEOUT_S = 10.0


class Channel(Protocol):
    """Bytes to and from one worker."""

    def write(self, data: bytes) -> None:
        """Sends all of `data`; raises ConnectionLostError."""

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes; raises ConnectionLostError."""

    def close(self) -> None:
        """Ends it, and the worker with it. Never raises."""


class PipeChannel:
    """A worker that is a process of this machine.

    Args:
        process: Started with pipes for its standard input and output; one for its standard error is read, too, and its last lines
            are told when it crashes.
        name: What messages call it.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", name: str = "this machine") -> None:
        self._process = process
        self._name = name
        self._said: deque[str] = deque(maxlen=LAST_WORDS)
        self._listener = Thread(target=self._listen, args=(process.stderr,), daemon=True) if process.stderr else None
        if self._listener:
            self._listener.start()

    def write(self, data: bytes) -> None:
        """Sends all of `data`."""
        given = self._process.stdin
        assert given is not None
        try:
            given.write(data)
            given.flush()
        except (OSError, ValueError) as error:  # a closed file is a ValueError
            raise self._ended() from error

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes."""
        told = self._process.stdout
        assert told is not None
        try:
            data = told.read(count)
        except (OSError, ValueError) as error:
            raise self._ended() from error
        if len(data) < count:
            raise self._ended()
        return data

    def close(self) -> None:
        """Ends the process: by ending what it reads, and by force where it does not hear."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._listener:
            self._listener.join(END_TIMEOUT_S)
        if self._process.stderr:
            self._process.stderr.close()

    def _ended(self) -> WorkerCrashedError:
        try:
            how = exit_name(self._process.wait(END_TIMEOUT_S))
        except subprocess.TimeoutExpired:
            how = "it closed its output and goes on"
        if self._listener:
            self._listener.join(END_TIMEOUT_S)
        words = f": {' '.join(self._said[-1].split())}" if self._said else ""
        return WorkerCrashedError(f"the worker on {self._name} ended by itself ({how}{words})")

    def _listen(self, stream: IO[bytes]) -> None:
        with suppress(OSError, ValueError):  # closed under our hands at the end
            for line in stream:
                if line.strip():
                    self._said.append(line.decode(errors="replace").strip())


class Worker:
    """One worker, asked question by question. What fails there is raised here, as the same class.

    Args:
        channel: Where it is.
        name: Its place, said in messages; left out for this machine.
    """

    def __init__(self, channel: Channel, name: str = "") -> None:
        self._channel = channel
        self._name = name
        self._open = True

    def hello(self) -> wire.Welcome:
        """Who is there."""
        return self._ask(wire.Hello(), wire.Welcome)

    def open(
        self,
        path: str,
        *,
        provider: Provider | None = None,
        session: SessionConfig | None = None,
        threads: int | None = None,
        check_isa: bool = True,
    ) -> "RemoteModel":
        """Opens a bundle or a model file.

        Args:
            path: As the worker sees it; what `Place.put` gave.
            provider: Another provider than the bundle's; taken strictly.
            session: Other session options than the bundle's.
            threads: Intra-op threads, whatever the options say.
            check_isa: Refuse a bundle whose figures do not hold there; not asked for where `session` is given.
        """
        opened = self._ask(wire.Open(path, provider, session, threads, check_isa), wire.Opened)
        return RemoteModel(self, opened)

    def run(self, handle: int, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One call of an open model."""
        return unpack_feed(self._ask(wire.Run(handle, pack_feed(feed, "input")), wire.Ran).outputs)

    def count(self, handle: int, feed: Mapping[str, np.ndarray], runs: int) -> list[int]:
        """Calls between marks, after one that is not counted; the marks where they began, each ended one above."""
        return self._ask(wire.Count(handle, pack_feed(feed, "input"), runs), wire.Counted).tags

    def optimized(self, path: str, *, provider: Provider | None = None, session: SessionConfig | None = None) -> bytes:
        """The model as onnxruntime optimizes it there, serialized, without its larger weights."""
        return self._ask(wire.Optimized(path, provider, session), wire.OptimizedGraph).data

    def bench(
        self,
        path: str,
        feed: Mapping[str, np.ndarray] | None = None,
        *,
        rounds: int = 25,
        threads: int | None = None,
        check_isa: bool = True,
    ) -> Benchmark:
        """Latency, cold start, memory and size there; on the bundle's own example where there is no feed."""
        sent = None if feed is None else pack_feed(feed, "input")
        document = self._ask(wire.Bench(path, sent, rounds, threads, check_isa), wire.Benched).document
        return msgspec.convert(document, Benchmark)

    def selftest(self, path: str, *, threads: int | None = None, check_isa: bool = True) -> SelfTest:
        """A bundle's golden examples there."""
        return msgspec.convert(self._ask(wire.SelfTest(path, threads, check_isa), wire.SelfTested).document, SelfTest)

    def memory(self) -> int | None:
        """The worker's peak resident memory so far, in bytes."""
        return self._ask(wire.Memory(), wire.PeakMemory).peak_rss_bytes

    def health(self) -> BoardHealth:
        """Temperature, clock and throttling, where the board tells."""
        return self._ask(wire.Health(), wire.HealthTold).health

    def close_model(self, handle: int) -> None:
        """Lets an open model go."""
        self._ask(wire.Close(handle), wire.Closed)

    def close(self) -> None:
        """Ends the worker. Never raises."""
        if self._open:
            self._open = False
            with suppress(EdgekitError):
                self._channel.write(wire.encode(wire.Quit()))
            self._channel.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _ask(self, request: wire.Request, kind: type[T]) -> T:
        if not self._open:
            raise DeviceError(f"ask the worker{self._where()}: it was closed; start the place again")
        self._channel.write(wire.encode(request))
        header = self._channel.read(wire.HEADER_BYTES)
        try:
            length = wire.frame_length(header)
        except ValueError as error:
            raise DeviceError(
                f"ask the worker{self._where()}: it answered {header!r}…, which is no message; something prints on standard output "
                "there, such as a login script (.bashrc); let that be silent where no terminal is"
            ) from error
        document = self._channel.read(length)
        try:
            reply = wire.decode_reply(document)
        except msgspec.MsgspecError as error:
            raise DeviceError(f"ask the worker{self._where()}: its answer is of another release: {error}") from error
        if isinstance(reply, wire.Failed):
            raise self._translated(reply)
        if not isinstance(reply, kind):
            raise DeviceError(f"ask the worker{self._where()}: it answered {type(reply).__name__}, expected {kind.__name__}")
        return reply

    def _translated(self, failed: wire.Failed) -> EdgekitError:
        known = getattr(errors, failed.kind, EdgekitError) if failed.kind in errors.__all__ else EdgekitError
        raised: EdgekitError = known(f"on {self._name}: {failed.message}" if self._name else failed.message)
        return raised

    def _where(self) -> str:
        return f" on {self._name}" if self._name else ""


class RemoteModel:
    """A model that is open in a worker. Call it with one dict of arrays by name; it gives a dict of arrays.

    Attributes:
        inputs: What it takes.
        outputs: What it gives.
        provider: The execution provider that it really runs on.
        threads: Intra-op threads.
        handle: What the worker calls it.
    """

    def __init__(self, worker: Worker, opened: wire.Opened) -> None:
        self._worker = worker
        self.inputs = opened.inputs
        self.outputs = opened.outputs
        self.provider = opened.provider
        self.threads = opened.threads
        self.handle = opened.handle

    def __call__(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs it once, there.

        Raises:
            InputError: The feed does not fit.
            SessionError: onnxruntime failed while running.
            ConnectionLostError: The worker cannot be reached any more.
        """
        return self._worker.run(self.handle, feed)

    def count(self, feed: Mapping[str, Any], runs: int) -> list[int]:
        """Calls between marks; see `Worker.count`."""
        return self._worker.count(self.handle, feed, runs)

    def close(self) -> None:
        """Lets it go there."""
        self._worker.close_model(self.handle)
