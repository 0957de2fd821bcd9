"""Streams of noise with recorded voices in them at known times.

The voices are Debian's ``asterisk-core-sounds-en-wav`` (recorded by Allison Smith, CC-BY-SA-3.0): prompts of telephone
exchanges, 8 kHz, 16 bit. The recordings are parted into two halves once, one for calibration and one for evaluation.
"""

import os
import wave
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from edgekit_runtime.errors import MissingExtraError

__all__ = ["FOLDER_VARIABLE", "Stream", "recordings", "stream", "voice_folder"]

RATE_HZ = 8000
WINDOW = 256
PACKAGE = "asterisk-core-sounds-en-wav"
INSTALLED = Path("/usr/share/asterisk/sounds/en_US_f_Allison")  # where Debian's package puts it
FOLDER_VARIABLE = "EDGEKIT_VOICES"

SECONDS = 24.0
FRAME = 1024
SHORTEST_S, LONGEST_S = 1.0, 8.0
VOICED_DB = -40.0
"""A window is voiced where the clean recording is above this, against its stream's loud windows."""
LOUD_PERCENTILE = 95.0

Half = Literal["calibration", "evaluation"]


@dataclass(frozen=True)
class Stream:
    """Sound with its truth.

    Attributes:
        samples: (windows × 256,), float32; full scale is 1.
        voiced: (windows,), bool.
        names: The recordings in it, in order.
    """

    samples: np.ndarray
    voiced: np.ndarray
    names: tuple[str, ...]


def voice_folder() -> Path:
    """The folder with the recordings.

    Raises:
        MissingExtraError: They are not installed.
    """
    folder = Path(os.environ.get(FOLDER_VARIABLE) or INSTALLED)
    if not folder.is_dir():
        raise MissingExtraError(
            f"the voices are not in {folder}: install Debian's package (apt-get install {PACKAGE}); without root, apt-get download "
            f"{PACKAGE}, unpack it with dpkg -x, and set {FOLDER_VARIABLE} to its folder that ends in {INSTALLED.name}"
        )
    return folder


def recordings(half: Half) -> tuple[tuple[str, np.ndarray], ...]:
    """Every other recording of 1 to 8 s, by name: its name and its samples, float32.

    Raises:
        MissingExtraError: They are not installed.
    """
    return _read(voice_folder())[0 if half == "calibration" else 1 :: 2]


@cache
def _read(folder: Path) -> tuple[tuple[str, np.ndarray], ...]:
    found = []
    for path in sorted(folder.rglob("*.wav")):
        if path.parent.name == "silence":
            continue
        with wave.open(str(path)) as file:
            if SHORTEST_S <= file.getnframes() / RATE_HZ <= LONGEST_S:
                samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                found.append((path.relative_to(folder).as_posix(), samples.astype(np.float32) / np.float32(32768)))
    return tuple(found)


def stream(half: Half, snr_db: float, seed: int) -> Stream:
    """24 seconds of steady noise with the spectrum of speech.

    Recordings start one to three seconds after one another's end.

    Args:
        half: Which recordings.
        snr_db: Mean power of the voiced windows over that of the noise.
        seed: Draws recordings, times and noise; one seed gives the same voices at the same times at every `snr_db`.
    """
    random = np.random.default_rng([seed, half == "evaluation"])
    windows = int(SECONDS * RATE_HZ) // WINDOW
    clean = np.zeros(windows * WINDOW)
    names = []
    known = recordings(half)
    start = int(random.uniform(0.5, 2.0) * RATE_HZ)
    while True:
        name, voice = known[int(random.integers(len(known)))]
        if start + voice.size > clean.size - RATE_HZ // 2:
            break
        clean[start : start + voice.size] = voice
        names.append(name)
        start += voice.size + int(random.uniform(1.0, 3.0) * RATE_HZ)
    power = np.mean(clean.reshape(windows, WINDOW) ** 2, axis=1)
    voiced = power > np.percentile(power[power > 0], LOUD_PERCENTILE) * 10 ** (VOICED_DB / 10)
    noise = speech_shaped_noise(half, clean.size, random) * np.sqrt(np.mean(power[voiced]) / 10 ** (snr_db / 10))
    return Stream((clean + noise).astype(np.float32), voiced, tuple(names))


@cache
def spectrum(half: Half) -> np.ndarray:
    """The voices' long-term spectrum: amplitude (513,) from 0 to 4000 Hz, by Welch's method."""
    sound = np.concatenate([voice for _, voice in recordings(half)])
    frames = sound[: sound.size // FRAME * FRAME].reshape(-1, FRAME) * np.hanning(FRAME)
    amplitude: np.ndarray = np.sqrt(np.mean(np.abs(np.fft.rfft(frames, axis=1)) ** 2, axis=0))
    return amplitude


def speech_shaped_noise(half: Half, size: int, random: np.random.Generator) -> np.ndarray:
    """Noise (size,) with the voices' long-term spectrum, mean power 1: what hides speech best at a given power."""
    tones = np.fft.rfft(random.normal(size=size))
    shape = spectrum(half)
    noise = np.fft.irfft(tones * np.interp(np.linspace(0, 1, tones.size), np.linspace(0, 1, shape.size), shape), size)
    shaped: np.ndarray = noise / np.sqrt(np.mean(noise**2))
    return shaped
