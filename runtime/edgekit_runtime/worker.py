"""The worker: ``python -m edgekit_runtime worker`` serves requests on standard input and answers on standard output.

It is the same on this machine, under an emulator and on a board; what a request may say is in `wire`. One request is served after
the other. Whatever goes wrong with one becomes its answer, and the worker goes on; it ends when its input does.
"""

import contextlib
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import onnxruntime as ort

from edgekit_runtime import __version__, wire
from edgekit_runtime.benchmark import benchmark, example_feed
from edgekit_runtime.bundle import check_files, is_bundle, read_manifest
from edgekit_runtime.errors import EdgekitError, InputError, SessionError
from edgekit_runtime.fresh_process import peak_rss_bytes
from edgekit_runtime.health import board_health
from edgekit_runtime.machine import machine
from edgekit_runtime.model import Model, load
from edgekit_runtime.selftest import selftest
from edgekit_runtime.session import Provider, SessionConfig, open_session, session_options, short_reason
from edgekit_runtime.wire_tensors import pack_feed, unpack_feed

__all__ = ["Server", "main", "serve"]

# No descriptor has this number, so that the call fails harmlessly everywhere; an emulator's plugin sees it and its position.
MARK = -7701
INTERRUPTED = 130


class Server:
    """Serves requests, one after the other, and keeps the models that they opened."""

    def __init__(self) -> None:
        self._models: dict[int, Model] = {}
        self._handles = 0
        self._tag = 0
        self._serving: dict[type, Callable[[Any], wire.Reply]] = {
            wire.Hello: self._hello,
            wire.Open: self._open,
            wire.Run: self._run,
            wire.Count: self._count,
            wire.Optimized: self._optimized,
            wire.Bench: self._bench,
            wire.SelfTest: self._selftest,
            wire.Memory: lambda _: wire.PeakMemory(peak_rss_bytes()),
            wire.Health: lambda _: wire.HealthTold(board_health()),
            wire.Close: self._close,
            wire.Quit: lambda _: wire.Closed(),
        }

    def answer(self, request: wire.Request) -> wire.Reply:
        """The answer to a request; a failure is one, too."""
        try:
            return self._serving[type(request)](request)
        except EdgekitError as error:
            return wire.Failed(type(error).__name__, str(error))
        except MemoryError:
            return wire.Failed("SessionError", f"{type(request).__name__.lower()}: out of memory on this machine")
        except Exception as error:  # noqa: BLE001 - the worker outlives every request, and the client is told
            return wire.Failed("EdgekitError", f"worker, {type(request).__name__}: {type(error).__name__}: {error}")

    def _hello(self, _: wire.Hello) -> wire.Welcome:
        versions = {
            "edgekit_runtime": __version__,
            "onnxruntime": ort.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        return wire.Welcome(versions, machine(), os.getpid())

    def _open(self, request: wire.Open) -> wire.Opened:
        model = _opened(request)
        self._handles += 1
        self._models[self._handles] = model
        return wire.Opened(self._handles, model.inputs, model.outputs, model.provider, model.threads)

    def _run(self, request: wire.Run) -> wire.Ran:
        outputs = self._model(request.handle)(unpack_feed(request.feed))
        return wire.Ran(pack_feed(outputs, "output"))

    def _count(self, request: wire.Count) -> wire.Counted:
        if request.runs < 1:
            raise InputError(f"count: runs={request.runs}, expected 1 or more")
        model, feed = self._model(request.handle), unpack_feed(request.feed)
        model(feed)
        tags = []
        for _ in range(request.runs):
            tags.append(self._tag)
            _mark(self._tag)
            model(feed)
            _mark(self._tag + 1)
            self._tag += 2
        return wire.Counted(tags)

    def _optimized(self, request: wire.Optimized) -> wire.OptimizedGraph:
        path, provider, session = Path(request.path), request.provider, request.session
        if is_bundle(path):
            manifest = read_manifest(path)
            check_files(path, manifest)
            path, provider, session = path / manifest.model, provider or manifest.provider, session or manifest.session
        return wire.OptimizedGraph(_optimized_here(path, provider or Provider(), session or SessionConfig()))

    def _bench(self, request: wire.Bench) -> wire.Benched:
        model = load(request.path, threads=request.threads, check_isa=request.check_isa)
        feed = example_feed(model) if request.feed is None else unpack_feed(request.feed)
        return wire.Benched(msgspec.to_builtins(benchmark(model, feed, rounds=request.rounds)))

    def _selftest(self, request: wire.SelfTest) -> wire.SelfTested:
        model = load(request.path, threads=request.threads, check_isa=request.check_isa)
        return wire.SelfTested(msgspec.to_builtins(selftest(model)))

    def _close(self, request: wire.Close) -> wire.Closed:
        self._model(request.handle)
        del self._models[request.handle]
        return wire.Closed()

    def _model(self, handle: int) -> Model:
        if handle not in self._models:
            raise InputError(f"worker: no model {handle} is open; open is {sorted(self._models) or 'none'}")
        return self._models[handle]


def _opened(request: wire.Open) -> Model:
    path = Path(request.path)
    if request.session is None:
        return load(path, provider=request.provider, threads=request.threads, check_isa=request.check_isa)
    session = msgspec.structs.replace(request.session, threads=request.threads or request.session.threads)
    if not is_bundle(path):
        return Model(open_session(path, request.provider, session), path)
    manifest = read_manifest(path)
    check_files(path, manifest)
    return Model(open_session(path / manifest.model, request.provider or manifest.provider, session), path, manifest)


def _optimized_here(path: Path, provider: Provider, session: SessionConfig) -> bytes:
    """The model at `path` after onnxruntime's optimization, serialized, without its larger weights."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        saved = Path(folder) / "optimized.onnx"
        options = session_options(session)
        options.optimized_model_filepath = str(saved)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.data")
        try:
            ort.InferenceSession(str(path), options, providers=[(provider.name, dict(provider.options))], enable_fallback=0)
            return saved.read_bytes()
        except Exception as error:  # onnxruntime raises a dozen unrelated types here
            raise SessionError(
                f"optimize {path.name} on {provider.name}: onnxruntime {ort.__version__} gives no graph: {short_reason(error)}"
            ) from error


def _mark(tag: int) -> None:
    """Tells an emulator where it is; nothing happens anywhere else."""
    with contextlib.suppress(OSError):
        os.lseek(MARK, tag, os.SEEK_SET)


def serve(requests: BinaryIO, answers: BinaryIO) -> int:
    """Serves until the requests end, or one says so; the exit status."""
    server = Server()
    while True:
        header = requests.read(wire.HEADER_BYTES)
        if len(header) < wire.HEADER_BYTES:
            return 0  # whoever asked has gone
        length = wire.frame_length(header)
        document = requests.read(length)
        if len(document) < length:
            return 0
        request = None
        try:
            request = wire.decode_request(document)
        except msgspec.MsgspecError as error:
            reply: wire.Reply = wire.Failed("EdgekitError", f"worker {__version__} does not understand the request: {error}")
        else:
            reply = server.answer(request)
        try:
            answers.write(wire.encode(reply))
            answers.flush()
        except BrokenPipeError:
            return 0
        if isinstance(request, wire.Quit):
            return 0


def main() -> int:
    """Serves on this process's standard input and output.

    What libraries print goes to standard error, and what they start reads nothing: only frames travel.
    """
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    try:
        with os.fdopen(requests, "rb") as given, os.fdopen(answers, "wb") as told:
            return serve(given, told)
    except ValueError as error:
        sys.stderr.write(f"error: worker: {error}; start it through edgekit, not by hand\n")
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
