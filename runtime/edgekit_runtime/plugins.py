"""Execution providers that come as libraries of their own, in a package beside onnxruntime.

A plugin's library is registered once in a process; from then on it names the devices that it takes, and sessions are opened on
these. A manifest says in a word how to compute (``{"precision": "f32"}``); what the library wants to hear is made of it here.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import msgspec
import onnxruntime as ort

from edgekit_runtime.errors import ProviderError

__all__ = ["OPENVINO", "PLUGINS", "Plugin", "available_providers", "plugin_devices", "plugin_options"]

OPENVINO = "OpenVINOExecutionProvider"
# Registering a library from Python is there since onnxruntime 1.23.
OLDEST_ONNXRUNTIME = "1.23"


class Plugin(msgspec.Struct, frozen=True):
    """One provider's package.

    Attributes:
        provider: The execution provider's name.
        package: What pip installs.
        module: What Python imports; its `get_library_path` tells where the library is.
        takes: What devices it takes, in words.
        precisions: What it may compute float operators in, its most exact first.
    """

    provider: str
    package: str
    module: str
    takes: str
    precisions: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.module) is not None

    @property
    def version(self) -> str:
        """Its release, where it is installed."""
        from importlib import metadata  # costs more than everything else here, and is for messages only

        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return "of an unknown release"


PLUGINS = {
    plugin.provider: plugin
    for plugin in (
        Plugin(
            OPENVINO,
            "onnxruntime-ep-openvino",
            "onnxruntime_ep_openvino",
            # Its list of devices leaves out every processor of another vendor, although OpenVINO itself computes on them.
            "processors that call themselves Intel's (microsoft/onnxruntime#31981)",
            ("f32", "bf16"),
        ),
    )
}


def available_providers() -> tuple[str, ...]:
    """Names of the providers that a session can be opened on here: onnxruntime's own, and installed plugins that have a device."""
    found = [name for name in ort.get_available_providers() if name.partition(".")[0] not in PLUGINS]
    for name, plugin in PLUGINS.items():
        if plugin.installed:
            try:
                plugin_devices(name)
            except ProviderError:
                continue
            found.append(name)
    return tuple(found)


def plugin_devices(provider: str) -> tuple[ort.OrtEpDevice, ...]:
    """The processor as a plugin's devices, once its library is registered in this process.

    Raises:
        ProviderError: The package is missing, its library does not load, or it takes no device of this machine.
    """
    plugin = PLUGINS[provider]
    if not plugin.installed:
        raise ProviderError(f"{provider} is not installed; pip install {plugin.package}")
    failure = _register(plugin)
    if failure is not None:
        raise ProviderError(failure)
    devices = _devices(provider)
    if not devices:
        here = next((found.device.vendor for found in ort.get_ep_devices() if found.device.vendor), "unknown")
        raise ProviderError(
            f"{plugin.package} {plugin.version} takes no device of this machine: it takes {plugin.takes}, and this one's vendor is "
            f"{here}; use another provider"
        )
    return devices


@cache
def _register(plugin: Plugin) -> str | None:
    """Registers a plugin's library, once; why it cannot be, where it cannot."""
    if not hasattr(ort, "register_execution_provider_library"):
        return (
            f"{plugin.provider} needs onnxruntime {OLDEST_ONNXRUNTIME} or newer, this is {ort.__version__}; "
            f"pip install 'onnxruntime>={OLDEST_ONNXRUNTIME}'"
        )
    if _devices(plugin.provider):
        return None  # the program that we are part of has registered it
    try:
        ort.register_execution_provider_library(plugin.provider, import_module(plugin.module).get_library_path())
    except Exception as error:  # noqa: BLE001 - onnxruntime raises a dozen unrelated types here, and the package its own
        reason = " ".join(str(error).split())[:300]
        return (
            f"{plugin.package} {plugin.version} does not load into onnxruntime {ort.__version__}: {reason}; "
            f"pip install --upgrade {plugin.package} onnxruntime"
        )
    return None


def plugin_options(provider: str, options: Mapping[str, str], threads: int) -> dict[str, str]:
    """What a plugin's library is told, of what a manifest says.

    The precision is always said, since OpenVINO's own choice is bfloat16 wherever the processor has it.

    Args:
        provider: The plugin's provider.
        options: As in `Provider.options`; ``precision`` is the only one.
        threads: Threads to compute with.

    Raises:
        ProviderError: An option or its value is unknown.
    """
    precisions = PLUGINS[provider].precisions
    precision = options.get("precision", precisions[0])
    unknown = sorted(set(options) - {"precision"})
    if unknown or precision not in precisions:
        told = ", ".join(f"{name}={options[name]!r}" for name in unknown or ["precision"])
        raise ProviderError(f"{provider} is given {told}; it takes precision, one of {', '.join(precisions)}")
    own = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
    }
    return {"load_config": msgspec.json.encode({"CPU": own}).decode()}


def _devices(provider: str) -> tuple[ort.OrtEpDevice, ...]:
    return tuple(
        found for found in ort.get_ep_devices() if found.ep_name == provider and found.device.type == ort.OrtHardwareDeviceType.CPU
    )
