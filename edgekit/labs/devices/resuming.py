"""Work at a place that survives a lost connection: it connects anew, waits longer each time, and gives up after some minutes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from typing import Any, TypeVar

import numpy as np

from edgekit.labs.place import Place
from edgekit.labs.worker import RemoteModel, Worker
from edgekit_runtime.errors import ConnectionLostError, DeviceError, WorkerCrashedError
from edgekit_runtime.session import Provider, SessionConfig

__all__ = ["WAITS_S", "ResumingModel", "open_resuming", "put_resuming", "resuming"]

T = TypeVar("T")
WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Pauses before each new attempt; together they are longer than a Raspberry Pi takes to start."""


def resuming(
    place: Place,
    work: Callable[[Worker], T],
    *,
    waits_s: Sequence[float] = WAITS_S,
    on_lost: Callable[[ConnectionLostError], None] | None = None,
) -> T:
    """The outcome of `work` with a worker at `place`; it begins anew, with a new worker, whenever the connection was lost.

    A first connection that does not come about is told at once, and so is a worker that crashed: it would again.

    Args:
        place: Where.
        work: The work. What it has done before a loss, it may keep.
        waits_s: Pauses before each new attempt.
        on_lost: Told of each loss.

    Raises:
        ConnectionLostError: It was lost more often than that.
        EdgekitError: What `work` raises.
    """
    loss: ConnectionLostError | None = None
    for wait_s in (0.0, *waits_s):
        sleep(wait_s)
        begun = False
        try:
            with place.start() as worker:
                begun = True
                return work(worker)
        except WorkerCrashedError:
            raise
        except ConnectionLostError as error:
            loss = error
            if on_lost:
                on_lost(error)
        except DeviceError:
            if begun or loss is None:
                raise  # otherwise it is on its way back: a board that starts refuses connections for a while
    assert loss is not None
    raise _given_up(loss, waits_s)


def put_resuming(
    place: Place,
    path: Path,
    *,
    waits_s: Sequence[float] = WAITS_S,
    on_lost: Callable[[ConnectionLostError], None] | None = None,
) -> str:
    """As `Place.put`; where the connection is lost, it goes on with what is missing.

    Args:
        place: Where to.
        path: The bundle or the model here.
        waits_s: Pauses before each new attempt.
        on_lost: Told of each loss.

    Raises:
        ConnectionLostError: It was lost more often than that.
        EdgekitError: What `Place.put` raises.
    """
    loss: ConnectionLostError | None = None
    for wait_s in (0.0, *waits_s):
        sleep(wait_s)
        try:
            return place.put(path)
        except ConnectionLostError as error:
            loss = error
            if on_lost:
                on_lost(error)
        except DeviceError:
            if loss is None:
                raise
    assert loss is not None
    raise _given_up(loss, waits_s)


def _given_up(loss: ConnectionLostError, waits_s: Sequence[float]) -> ConnectionLostError:
    error = ConnectionLostError(
        f"{loss}; it did not come back in {len(waits_s)} attempts over {sum(waits_s):.0f} s; see that the board is on, and in reach"
    )
    error.__cause__ = loss
    return error


class ResumingModel:
    """An open model at a place. Call it with one dict of arrays by name; it gives a dict of arrays.

    Where the connection is lost, the model is opened anew and the call that was lost is made again: a session keeps nothing between
    calls, so that whoever evaluates goes on as if nothing had happened, with all predictions kept.

    Args:
        place: Where.
        open_model: Opens the model with a worker.
        waits_s: Pauses before each new attempt at one call.
        on_lost: Told of each loss.
    """

    def __init__(
        self,
        place: Place,
        open_model: Callable[[Worker], RemoteModel],
        waits_s: Sequence[float] = WAITS_S,
        on_lost: Callable[[ConnectionLostError], None] | None = None,
    ) -> None:
        self._place = place
        self._open_model = open_model
        self._waits_s = waits_s
        self._on_lost = on_lost
        self._stack = ExitStack()
        self._model: RemoteModel | None = None
        self._ask(lambda _: None, waits_s=())

    def __call__(self, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Runs it once, there.

        Raises:
            InputError: The feed does not fit.
            SessionError: onnxruntime failed while running.
            ConnectionLostError: The place was lost and did not come back.
        """
        return self._ask(lambda model: model(feed), self._waits_s)

    @property
    def model(self) -> RemoteModel:
        """The model as it is open now."""
        assert self._model is not None
        return self._model

    def close(self) -> None:
        """Ends the worker."""
        self._stack.close()
        self._model = None

    def _ask(self, call: Callable[[RemoteModel], T], waits_s: Sequence[float]) -> T:
        waits = list(waits_s)
        losses: list[ConnectionLostError] = []
        while True:
            try:
                if self._model is None:
                    self._model = self._open_model(self._stack.enter_context(self._place.start()))
                return call(self._model)
            except WorkerCrashedError:
                raise
            except DeviceError as error:
                opening = self._model is None
                self.close()
                if isinstance(error, ConnectionLostError):
                    losses.append(error)
                    if self._on_lost:
                        self._on_lost(error)
                elif not (opening and losses):
                    raise
                if not waits:
                    raise
                sleep(waits.pop(0))


@contextmanager
def open_resuming(
    place: Place,
    path: str,
    *,
    provider: Provider | None = None,
    session: SessionConfig | None = None,
    threads: int | None = None,
    check_isa: bool = True,
    waits_s: Sequence[float] = WAITS_S,
    on_lost: Callable[[ConnectionLostError], None] | None = None,
) -> Iterator[ResumingModel]:
    """A model at a place for a whole evaluation; the options are those of `Worker.open`.

    Args:
        place: Where.
        path: What `Place.put` gave.
        provider: Another provider than the bundle's; taken strictly.
        session: Other session options than the bundle's.
        threads: Intra-op threads.
        check_isa: Refuse a bundle whose figures do not hold there.
        waits_s: Pauses before each new attempt at one call.
        on_lost: Told of each loss.
    """

    def opened(worker: Worker) -> RemoteModel:
        return worker.open(path, provider=provider, session=session, threads=threads, check_isa=check_isa)

    model = ResumingModel(place, opened, waits_s, on_lost)
    try:
        yield model
    finally:
        model.close()
