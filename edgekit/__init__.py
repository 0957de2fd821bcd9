"""edgekit takes a model from PyTorch to a phone or a Raspberry Pi, and says what it lost and won on the way."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgekit.recipe import Recipe

if TYPE_CHECKING:
    from edgekit.commands.bench import bench
    from edgekit.commands.card import card
    from edgekit.commands.certify import certify
    from edgekit.commands.compare import compare
    from edgekit.commands.deploy import deploy
    from edgekit.commands.diagnose import diagnose
    from edgekit.commands.doctor import doctor
    from edgekit.commands.export import export
    from edgekit.commands.inspect import inspect
    from edgekit.commands.quantize import quantize
    from edgekit.commands.run import run
    from edgekit.commands.selftest import selftest
    from edgekit.commands.sensitivity import sensitivity
    from edgekit.training import distil, prune, qat
    from edgekit_runtime import load

__all__ = [
    "Recipe",
    "__version__",
    "bench",
    "card",
    "certify",
    "compare",
    "deploy",
    "diagnose",
    "distil",
    "doctor",
    "export",
    "inspect",
    "load",
    "prune",
    "qat",
    "quantize",
    "run",
    "selftest",
    "sensitivity",
]

__version__ = "0.1.0"

COMMANDS = (
    "bench",
    "card",
    "certify",
    "compare",
    "deploy",
    "diagnose",
    "doctor",
    "export",
    "inspect",
    "quantize",
    "run",
    "selftest",
    "sensitivity",
)
TRAINING = ("distil", "prune", "qat")


def __getattr__(name: str) -> Any:
    """Imports a function when it is first used: most of them need onnxruntime, and some torch."""
    if name in COMMANDS:
        return getattr(import_module(f"edgekit.commands.{name}"), name)
    if name in TRAINING:
        return getattr(import_module("edgekit.training"), name)
    if name == "load":
        return import_module("edgekit_runtime").load
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}; it has {', '.join(__all__)}")
