"""The machine and the versions behind a result."""

from importlib.metadata import PackageNotFoundError, version

from edgekit_runtime.machine import machine

__all__ = ["environment", "tool_versions"]

TOOLS = ("edgekit", "edgekit-export", "edgekit-runtime", "numpy", "onnx", "onnx-ir", "onnxruntime", "onnxscript", "torch")


def tool_versions() -> dict[str, str]:
    """Versions of the installed packages that a bundle depends on; packages that are missing are left out."""
    from edgekit_runtime.plugins import PLUGINS

    found = {}
    for name in (*TOOLS, *(plugin.package for plugin in PLUGINS.values())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """This machine and the versions, as lines for a report."""
    here = machine()
    memory = f"{here.memory_bytes / 1e9:.1f} GB" if here.memory_bytes else "unknown"
    return {
        "processor": here.cpu,
        "architecture": here.architecture,
        "instruction sets": ", ".join(here.isa) or "none that matter to int8",
        "cores": f"{here.cores} of {here.cores_total}",
        "memory": memory,
        "system": here.system,
        "python": here.python,
        **tool_versions(),
    }
