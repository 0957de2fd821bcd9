"""The ten networks that deployments are measured on, each by its recipe: ``never_slower`` and ``peers`` take them from here."""

from pathlib import Path

__all__ = ["NETWORKS", "ROOT"]

ROOT = Path(__file__).resolve().parents[1]

NETWORKS: dict[str, str] = {
    "fashion": "examples/fashion_mnist/recipe.py",
    "efficientnet-lite0": "benchmarks/models/efficientnet_lite0.py",
    "mobilenet-v2": "benchmarks/models/mobilenet_v2.py:relu6",
    "mobilenet-v3": "benchmarks/models/mobilenet_v3.py",
    "resnet18": "benchmarks/models/resnet18.py",
    "minilm": "benchmarks/models/minilm.py",
    "torchcrepe-tiny": "benchmarks/models/torchcrepe_tiny.py",
    "silero-vad": "benchmarks/models/silero_vad.py",
    "gru": "benchmarks/models/gru.py",
    "tiny-vit": "benchmarks/models/tiny_vit.py",
}
"""By name, the recipe's place below `ROOT`, as ``edgekit deploy`` takes it. The order is that of the tables."""
