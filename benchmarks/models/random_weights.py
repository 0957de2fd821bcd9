"""Random weights with the statistics of trained ones, for networks that are measured for time and drift and not for what they know.

Plain random initialization gives activations that vanish or explode with depth, and channels that are all alike: both would make
the figures of int8 look other than they are in practice.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.models.mobilenet_v2 import photograph_like

if TYPE_CHECKING:
    from torch import nn

__all__ = ["draw_convolutions", "images"]

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


def images() -> Iterator[dict[str, np.ndarray]]:
    """64 feeds of one synthetic image each, (1, 3, 224, 224); the network has not seen them."""
    for index in range(CALIBRATION_IMAGES):
        yield {"image": photograph_like(index)}
