"""Losing a place and finding it again, without a network: workers of this machine, whose channels are cut."""

from contextlib import contextmanager

import numpy as np
import pytest

from edgekit.labs.devices.resuming import open_resuming, resuming
from edgekit.labs.place import HostPlace
from edgekit_runtime import load
from edgekit_runtime.errors import ConnectionLostError, DeviceError, InputError, WorkerCrashedError


class Fragile(HostPlace):
    """This machine over a channel that breaks before the requests at `cuts`; `refusals` starts fail after a loss."""

    def __init__(self, cuts=(), refusals=0):
        self.cuts, self.refusals, self.starts, self.requests = set(cuts), refusals, 0, 0

    @contextmanager
    def start(self):
        if self.starts and self.refusals:
            self.refusals -= 1
            raise DeviceError("connect to fragile: it is not reached")
        self.starts += 1
        with super().start() as worker:
            write = worker._channel.write

            def breaking(data):
                self.requests += worker._open  # its farewell does not count
                if worker._open and self.requests in self.cuts:
                    raise ConnectionLostError("ask the worker on fragile: the connection was lost")
                write(data)

            worker._channel.write = breaking
            yield worker


NOW = (0.0, 0.0, 0.0)


def test_work_begins_anew_with_a_new_worker():
    place, pids, lost = Fragile(cuts={2}, refusals=1), [], []

    def work(worker):
        pids.append(worker.hello().pid)
        return worker.hello().pid

    assert resuming(place, work, waits_s=NOW, on_lost=lost.append) == pids[1]
    assert len(set(pids)) == 2
    assert len(lost) == 1


def test_a_place_that_is_not_there_at_first_is_told_at_once():
    place = Fragile(refusals=9)
    place.starts = 1
    with pytest.raises(DeviceError, match="it is not reached"):
        resuming(place, lambda worker: worker.hello(), waits_s=NOW)
    assert place.refusals == 8


def test_what_fails_for_another_reason_is_not_tried_again(tmp_path):
    place = Fragile(cuts={1})
    with pytest.raises(DeviceError, match="other"):
        resuming(place, failing(DeviceError("other")), waits_s=NOW)
    with pytest.raises(WorkerCrashedError):
        resuming(place, failing(WorkerCrashedError("crashed")), waits_s=NOW)
    assert place.starts == 3  # the first one lost its connection


def failing(error):
    def work(worker):
        worker.hello()
        raise error

    return work


@pytest.mark.parametrize("attempts", [0, 1, 2])
def test_it_is_given_up_after_so_many_attempts(attempts):
    place = Fragile(cuts=range(1, 99))
    with pytest.raises(ConnectionLostError, match=f"did not come back in {attempts} attempts"):
        resuming(place, lambda worker: worker.hello(), waits_s=NOW[:attempts])
    assert place.starts == attempts + 1


def test_calls_are_made_once_each_and_all_outputs_are_kept(deployed):
    bundle, draw = deployed[0] / "quadrants.edge", np.random.default_rng(0)
    feeds = [{"image": draw.normal(size=(1, 64)).astype(np.float32)} for _ in range(6)]
    # Requests: open, run, run, lost, lost while opening, open, …
    place, lost = Fragile(cuts={4, 5, 9}), []
    with open_resuming(place, str(bundle), threads=1, waits_s=NOW, on_lost=lost.append) as run:
        outputs = [run(feed)["logits"] for feed in feeds]
        with pytest.raises(InputError):
            run({})
    local = load(bundle, threads=1)
    assert all(np.array_equal(output, local(feed)["logits"]) for output, feed in zip(outputs, feeds, strict=True))
    assert len(lost) == 3
    assert place.starts == 4


def test_a_call_that_is_lost_again_and_again_is_told(deployed):
    place = Fragile(cuts=range(2, 99))
    with (
        open_resuming(place, str(deployed[0] / "quadrants.edge"), waits_s=NOW) as run,
        pytest.raises(ConnectionLostError, match="the connection was lost"),
    ):
        run({"image": np.zeros((1, 64), np.float32)})
    assert place.starts == 1 + len(NOW)
