"""The graph as onnxruntime runs it on this machine, after its own optimization."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from edgekit.inspection.float_islands import FloatIsland, find_float_islands
from edgekit.inspection.surviving_qdq import SurvivingQdq, find_surviving_qdq
from edgekit.inspection.wiring import Wiring, count_operators
from edgekit_runtime.errors import SessionError
from edgekit_runtime.plugins import PLUGINS
from edgekit_runtime.session import CPU, Provider, SessionConfig, session_options, short_reason

__all__ = ["OptimizedGraph", "optimize", "optimized_wiring"]


class OptimizedGraph(msgspec.Struct, frozen=True):
    """A model after onnxruntime's optimization here.

    Attributes:
        provider: The provider that it was optimized for.
        level: The level of graph optimization.
        fallback_reason: Why `provider` is not the one asked for; ``None`` when it is.
        nodes: How many nodes there are.
        operators: Operators with counts.
        surviving: Q/DQ that are left, and what blocks them.
        islands: Float nodes between quantized ones.
    """

    provider: str
    level: str
    fallback_reason: str | None
    nodes: int
    operators: dict[str, int]
    surviving: SurvivingQdq
    islands: list[FloatIsland]


def optimize(path: Path, provider: Provider, config: SessionConfig) -> OptimizedGraph:
    """Lets onnxruntime optimize a model as it would to run it, and reads what came out.

    A provider that is missing here, or that compiles its nodes into something that cannot be saved, is replaced by the
    CPU provider, and the result says so.

    Raises:
        SessionError: onnxruntime refuses the model.
    """
    wiring, provider, reason = optimized_wiring(path, provider, config)
    return OptimizedGraph(
        provider=provider.name,
        level=config.graph_optimization,
        fallback_reason=reason,
        nodes=len(wiring.nodes),
        operators=count_operators(wiring.nodes),
        surviving=find_surviving_qdq(wiring),
        islands=find_float_islands(wiring),
    )


def optimized_wiring(path: Path, provider: Provider, config: SessionConfig) -> tuple[Wiring, Provider, str | None]:
    """The optimized graph itself, the provider that it is of, and why that is not the one asked for.

    Raises:
        SessionError: onnxruntime refuses the model.
    """
    import onnx
    import onnxruntime as ort

    reason = None
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        saved = Path(folder) / "optimized.onnx"
        if provider.name in PLUGINS:
            reason = f"{provider.name} compiles its nodes into one of its own and gives no graph to look at"
        elif provider.name not in ort.get_available_providers():
            reason = f"{provider.name} is not in this onnxruntime {ort.__version__}"
        elif provider.name != CPU:
            try:
                _save(path, provider, config, saved)
            except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen unrelated types here
                reason = f"{provider.name} gives no graph to look at: {short_reason(error)}"
        if reason is not None or provider.name == CPU:
            provider = Provider()
            try:
                _save(path, provider, config, saved)
            except Exception as error:
                raise SessionError(f"inspect {path}: onnxruntime {ort.__version__} refuses it: {short_reason(error)}") from error
        # The weights stay in a file beside it: only the structure is wanted.
        return Wiring(onnx.load(saved, load_external_data=False)), provider, reason


def _save(path: Path, provider: Provider, config: SessionConfig, saved: Path) -> None:
    import onnxruntime as ort

    options = session_options(config)
    options.optimized_model_filepath = str(saved)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.data")
    # 4: fatal only. Saving layouts that fit this processor alone is warned about, and is the point here.
    options.log_severity_level = 4
    ort.InferenceSession(str(path), options, providers=[(provider.name, dict(provider.options))], enable_fallback=0)
