"""Silero's voice detector: a trained streaming network with a state, which says of every 32 ms whether somebody speaks.

The weights come from PyPI (``silero-vad``, MIT), from its TorchScript file; ``voice_detector.py`` is the network, its 8 kHz
branch. The voices come from Debian (``noisy_speech.py``).

Three recipes, one network: ``snr30``, ``snr10`` and ``snr3``, voices 30, 10 and 3 dB over noise with the spectrum of speech. An
example is a stream of 24 seconds, one call a window, each with the state that the call before gave; so errors of the state add
up as they would on a device, and whoever resamples examples resamples streams. The metric is the share of windows that are
judged right, mean over the streams; a window is voiced where its clean recording is above −40 dB of the stream's loud windows.

**Calibration** takes other recordings, at all three levels of noise, with the states that the float network goes through; it is
the same for all three recipes.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2]))  # a recipe is opened by its path, from anywhere

from benchmarks.models.noisy_speech import Stream, stream
from benchmarks.models.package_data import package_folder
from edgekit import Recipe

if TYPE_CHECKING:
    from torch import nn

__all__ = ["recipe", "snr3", "snr10", "snr30"]

WINDOW, CONTEXT, STATE = 256, 32, 128
"""As in ``voice_detector.py``, which imports torch and so is imported late."""
LEVELS_DB = (30.0, 10.0, 3.0)
EVALUATION_STREAMS = 24
CALIBRATION_STREAMS = 6
CALIBRATION_STEP = 8
"""Every eighth window of a calibration stream is a feed: neighbours are alike."""
THRESHOLD = 0.5


def build() -> "nn.Module":
    """The trained detector: samples (batch, 288) and state (2, batch, 128) → speech (batch, 1) and next_state."""
    file = package_folder("silero_vad") / "data" / "silero_vad.jit"

    from benchmarks.models.voice_detector import load_silero

    return load_silero(file)


def windows(samples: np.ndarray) -> Iterator[np.ndarray]:
    """A stream (windows × 256,) → what each call gets (1, 288): the last 32 samples of the window before, and the window."""
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), samples])
    for start in range(0, samples.size, WINDOW):
        yield padded[None, start : start + CONTEXT + WINDOW]


def feeds(run: Any, samples: np.ndarray) -> Iterator[tuple[dict[str, np.ndarray], float]]:
    """Goes through a stream: each window's feed, and the probability of speech that `run` gives for it."""
    state = np.zeros((2, 1, STATE), np.float32)
    for window in windows(samples):
        feed = {"samples": window, "state": state}
        outputs = run(feed)
        yield feed, float(outputs["speech"][0, 0])
        state = outputs["next_state"]


def float_states(streams: Sequence[np.ndarray]) -> Iterator[list[dict[str, np.ndarray]]]:
    """Goes through streams of one length side by side with the float network: window by window, each stream's feed."""
    import torch

    detector = build()
    state = torch.zeros(2, len(streams), STATE)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # layers this small are not worth the waiting of several
    try:
        for together in zip(*map(windows, streams), strict=True):
            yield [{"samples": window, "state": state[:, [row]].numpy()} for row, window in enumerate(together)]
            with torch.inference_mode():
                _, state = detector(torch.from_numpy(np.concatenate(together)), state)
    finally:
        torch.set_num_threads(threads)


@cache
def calibration_feeds() -> list[dict[str, np.ndarray]]:
    """Six streams, two at each level of noise, every eighth window with the state that it finds: 564 feeds, in a drawn order."""
    sounds = [stream("calibration", LEVELS_DB[index % len(LEVELS_DB)], index).samples for index in range(CALIBRATION_STREAMS)]
    found = [feed for row in islice(float_states(sounds), 0, None, CALIBRATION_STEP) for feed in row]
    # Whoever looks at the first few only sees all levels of noise, and speech.
    return [found[place] for place in np.random.default_rng(0).permutation(len(found))]


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """564 feeds: samples (1, 288) and state (2, 1, 128). They are a megabyte together, and so need not be streamed."""
    yield from calibration_feeds()


def example() -> dict[str, np.ndarray]:
    """A window somewhere in a calibration stream: samples (1, 288), state (2, 1, 128)."""
    return next(calibration())


def streams(snr_db: float) -> list[Stream]:
    """The 24 streams of an evaluation."""
    return [stream("evaluation", snr_db, index) for index in range(EVALUATION_STREAMS)]


def evaluation(snr_db: float) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """24 streams (192 000,), float32, each with which of its 750 windows are voiced (750,), bool."""
    return [(one.samples, one.voiced) for one in streams(snr_db)]


def predict(run: Any, samples: np.ndarray) -> np.ndarray:
    """A stream → which windows are judged as voiced, (windows,), bool."""
    return np.asarray([speech >= THRESHOLD for _, speech in feeds(run, samples)])


def share_right(predictions: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """Share of windows judged right, mean over the streams."""
    return float(np.mean([np.mean(found == voiced) for found, voiced in zip(predictions, labels, strict=True)]))


snr30 = Recipe(
    name="silero-vad-snr30",
    model=build,
    example=example,
    dynamic={"samples": {0: "batch"}, "state": {1: "batch"}},
    outputs=["speech", "next_state"],
    calibration=calibration,
    evaluation=partial(evaluation, 30.0),
    predict=predict,
    metric=share_right,
)
snr10 = replace(snr30, name="silero-vad-snr10", evaluation=partial(evaluation, 10.0))
snr3 = replace(snr30, name="silero-vad-snr3", evaluation=partial(evaluation, 3.0))
recipe = snr10
