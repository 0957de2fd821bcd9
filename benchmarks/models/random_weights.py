"""Random weights with the statistics of trained ones, for networks that are measured for time and drift and not for what they know.

Plain random initialization gives activations that vanish or explode with depth, and channels that are all alike: both would make
the figures of int8 look other than they are in practice.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["SIDE", "draw_convolutions", "images", "photograph_like"]

SIDE = 224
CALIBRATION_IMAGES = 64
STATISTICS_IMAGES = 8


def draw_convolutions(network: "nn.Module") -> "nn.Module":
    """Draws the weights of convolutions and batch normalizations in place; gives the network, in eval mode.

    Batch normalization takes the statistics that one forward pass over synthetic images gives it, so activations keep the spread
    that they have in trained networks. The caller seeds torch.

    Args:
        network: It takes an image (batch, 3, 224, 224).
    """
    import torch
    from torch import nn

    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
        elif isinstance(part, nn.BatchNorm2d):
            # Channels of trained networks differ in spread and offset.
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
            part.momentum = None  # statistics are the plain average over what was seen
    seen = np.concatenate([photograph_like(index) for index in range(-STATISTICS_IMAGES, 0)])
    with torch.no_grad():
        network.train()(torch.from_numpy(seen))
    return network.eval()


def photograph_like(index: int) -> np.ndarray:
    """A synthetic image (1, 3, 224, 224), float32, clipped to −1 … 1; `index` may be negative.

    Amplitudes fall with one over frequency, as in photographs (Field, *Relations between the statistics of natural images
    and the response properties of cortical cells*, 1987), and the channels are alike. A few rectangles give it edges.
    """
    random = np.random.default_rng([abs(index), int(index < 0)])
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = np.inf  # no mean: brightness is set below
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((4, SIDE, SIDE))) / frequency, s=(SIDE, SIDE))
    noise /= noise.std(axis=(1, 2), keepdims=True)
    image = noise[:1] + 0.4 * noise[1:]  # one pattern that all channels share, and a weaker one of each
    for _ in range(6):
        top, left, height, width = random.integers(0, SIDE, 4)
        image[:, top : top + height // 2, left : left + width // 2] += random.normal(0, 1, (3, 1, 1))
    bright = random.uniform(0.25, 0.5) * image + random.uniform(-0.3, 0.3, (3, 1, 1))
    return np.ascontiguousarray(np.clip(bright, -1, 1)[None], dtype=np.float32)


def images() -> Iterator[dict[str, np.ndarray]]:
    """64 feeds of one synthetic image each, (1, 3, 224, 224); batch normalization has not seen them."""
    for index in range(CALIBRATION_IMAGES):
        yield {"image": photograph_like(index)}
