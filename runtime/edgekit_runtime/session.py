"""Opening a model in onnxruntime: options, the provider that was asked for, and its errors in plain words."""

import re
from pathlib import Path
from typing import Literal

import msgspec
import onnxruntime as ort

from edgekit_runtime.errors import ProviderError, SessionError
from edgekit_runtime.machine import available_cores
from edgekit_runtime.plugins import PLUGINS, plugin_devices, plugin_options

__all__ = ["CPU", "KEEP_FLOAT_WEIGHTS", "OpenSession", "Provider", "SessionConfig", "open_session", "short_reason"]

CPU = "CPUExecutionProvider"

LEVELS = {
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
LOCATION = re.compile(r"/\S+\.(?:cc|h):\d+ (?=\S)|Exception from \S+\.cpp:\d+: ")
PACKAGES = {
    "QNNExecutionProvider": "onnxruntime-qnn",
    "WebGpuExecutionProvider": "onnxruntime-ep-webgpu",
    "CUDAExecutionProvider": "onnxruntime-gpu",
}


class Provider(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An execution provider of onnxruntime with its options.

    Attributes:
        name: As onnxruntime calls it.
        options: Its options. OpenVINO's, which is a plugin, takes ``precision`` alone: ``f32`` or ``bf16``.
    """

    name: str = CPU
    options: dict[str, str] = {}


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a session is opened.

    Attributes:
        threads: Intra-op threads; ``None`` takes what affinity and the container's quota leave to this process.
        graph_optimization: onnxruntime's level of graph optimization.
        entries: Further session configuration entries of onnxruntime, by key.
        spinning: Whether threads that wait for work keep their cores busy: faster from call to call, and taken from everybody else.
        memory_arena: Whether memory is kept and laid out between calls, or given back after each.
        blocked_layout: Whether float convolutions may have their channels in blocks of the processor's width (NCHWc).
    """

    threads: int | None = None
    graph_optimization: Literal["disable", "basic", "extended", "all"] = "all"
    entries: dict[str, str] = {}
    spinning: bool = True
    memory_arena: bool = True
    blocked_layout: bool = True


class OpenSession(msgspec.Struct, frozen=True):
    """An open onnxruntime session with what it really runs on.

    Attributes:
        session: onnxruntime's session.
        provider: The provider in use.
        threads: Intra-op threads in use.
        fallback_reason: Why `provider` is not the one that was asked for; ``None`` when it is.
        provider_options: Options that the provider was given.
        config: Session options as they were asked for.
    """

    session: ort.InferenceSession
    provider: str
    threads: int
    fallback_reason: str | None = None
    provider_options: dict[str, str] = {}
    config: SessionConfig = SessionConfig()


# From level "basic" on, onnxruntime rounds the weights of float convolutions and products that stand between integers, to 8 bits
# per tensor, without a word: what quantization left in float on purpose would be worse than what it quantized.
DISABLED = "optimization.disable_specified_optimizers"
KEEP_FLOAT_WEIGHTS = {DISABLED: "WeightBiasQuantization"}
BLOCKED_LAYOUT = "NchwcTransformer"


def session_options(config: SessionConfig) -> ort.SessionOptions:
    """Onnxruntime's options for `config`, with threads resolved for this machine."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[config.graph_optimization]
    options.intra_op_num_threads = config.threads or available_cores()
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = config.memory_arena
    options.enable_mem_pattern = config.memory_arena
    # Fatal only: what onnxruntime calls an error reaches the caller as an exception, once.
    options.log_severity_level = 4
    entries = {**KEEP_FLOAT_WEIGHTS, **config.entries}
    if not config.blocked_layout:
        entries[DISABLED] = ";".join(name for name in (entries[DISABLED], BLOCKED_LAYOUT) if name)
    if not config.spinning:
        entries.setdefault("session.intra_op.allow_spinning", "0")
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def open_session(
    path: Path,
    provider: Provider | None = None,
    config: SessionConfig | None = None,
    fallback: str | None = None,
    *,
    profile: Path | None = None,
) -> OpenSession:
    """Opens a model file.

    Args:
        path: An ``.onnx`` or ``.ort`` file.
        provider: The provider to run on; the CPU provider where left out. It is taken strictly.
        config: Session options.
        fallback: A provider to use, and to report, where `provider` cannot be had.
        profile: How the name of onnxruntime's profile begins, where one is wanted; `session.end_profiling()` writes it.

    Raises:
        ProviderError: `provider` is not available, or did not take the model, and no `fallback` was allowed.
        SessionError: onnxruntime could not open the model.
    """
    provider = provider or Provider()
    config = config or SessionConfig()
    try:
        return _open_strictly(path, provider, config, profile)
    except ProviderError as error:
        if fallback is None or fallback == provider.name:
            raise
        opened = _open_strictly(path, Provider(fallback), config, profile)
        return msgspec.structs.replace(opened, fallback_reason=str(error))


def _open_strictly(path: Path, provider: Provider, config: SessionConfig, profile: Path | None = None) -> OpenSession:
    threads = config.threads or available_cores()
    plugin = _plugin(path, provider, threads)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise SessionError(f"open {path.name}: onnxruntime opens no path that is not UTF-8; rename or move it") from error
    try:
        options = session_options(config)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        if provider.name != CPU:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if plugin is not None:
            options.add_provider_for_devices(plugin_devices(provider.name)[:1], plugin)
            options.intra_op_num_threads = 1  # the plugin has threads of its own, and onnxruntime's would only spin beside them
            session = ort.InferenceSession(str(path), options, enable_fallback=0)
        else:
            ways = [(provider.name, dict(provider.options))]
            session = ort.InferenceSession(str(path), options, providers=ways, enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen unrelated types here
        kind = SessionError if provider.name == CPU else ProviderError
        raise kind(
            f"open {path.name} on {provider.name}: onnxruntime {ort.__version__} refused it: {short_reason(error)}"
        ) from error
    if session.get_providers()[0] != provider.name:
        raise ProviderError(
            f"open {path.name}: asked for {provider.name}, onnxruntime chose {session.get_providers()[0]}; "
            f"allow fallback='{CPU}' to accept that"
        )
    return OpenSession(session, provider.name, threads, provider_options=provider.options, config=config)


def _plugin(path: Path, provider: Provider, threads: int) -> dict[str, str] | None:
    """What a plugin's library is told; ``None`` for onnxruntime's own providers.

    Raises:
        ProviderError: The provider is not available, or does not know an option.
    """
    if provider.name in PLUGINS:
        try:
            told = plugin_options(provider.name, provider.options, threads)
            plugin_devices(provider.name)
        except ProviderError as error:
            raise ProviderError(f"open {path.name}: {error}, or allow fallback='{CPU}'") from error
        return told
    available = ort.get_available_providers()
    if provider.name not in available:
        package = PACKAGES.get(provider.name)
        advice = f"pip install {package}" if package else "install an onnxruntime build that has it"
        raise ProviderError(
            f"open {path.name}: {provider.name} is not in this onnxruntime {ort.__version__} (it has "
            f"{', '.join(available)}); {advice}, or allow fallback='{CPU}'"
        )
    return None


def short_reason(error: BaseException) -> str:
    """One of onnxruntime's messages in one line, without its error codes and source locations."""
    text = " ".join(str(error).split()) or type(error).__name__
    return LOCATION.sub("", PREFIX.sub("", text))[:300]
