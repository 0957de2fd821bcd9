"""Compression that needs training: fake-quantization with learned scales, structured pruning, distillation."""

from edgekit_export.training.channels import Channel
from edgekit_export.training.distillation import Distillation
from edgekit_export.training.fake_quantized import FakeQuantized
from edgekit_export.training.inserting import quantization_aware
from edgekit_export.training.pruning import Pruned, prune, remove_channels

__all__ = ["Channel", "Distillation", "FakeQuantized", "Pruned", "prune", "quantization_aware", "remove_channels"]
