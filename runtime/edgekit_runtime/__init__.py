"""The part of edgekit that runs on the device: it opens a bundle with numpy and onnxruntime alone.

>>> from edgekit_runtime import load
>>> model = load("fashion.edge")                      # doctest: +SKIP
>>> model({"image": image})["logits"]                 # doctest: +SKIP
"""

import os
from typing import TYPE_CHECKING, Any

from edgekit_runtime.errors import (
    BundleError,
    EdgekitError,
    InputError,
    ProviderError,
    SelfTestError,
    SessionError,
)

if TYPE_CHECKING:
    from edgekit_runtime.manifest import Manifest
    from edgekit_runtime.measurement import Measurement
    from edgekit_runtime.model import Model, load
    from edgekit_runtime.session import Provider, SessionConfig
    from edgekit_runtime.tensors import TensorSpec

__all__ = [
    "BundleError",
    "EdgekitError",
    "InputError",
    "Manifest",
    "Measurement",
    "Model",
    "Provider",
    "ProviderError",
    "SelfTestError",
    "SessionConfig",
    "SessionError",
    "TensorSpec",
    "__version__",
    "load",
]

__version__ = "0.1.0"

# Since 1.29, onnxruntime's wheels send usage data from the moment of their import and keep a database in the home folder. A
# device talks to nobody unless its owner wants it to: set the variable to 0 beforehand to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Imported when first asked for, so that errors and the machine can be had where onnxruntime is missing or broken.
_LATER = {
    "Manifest": "manifest",
    "Measurement": "measurement",
    "Model": "model",
    "Provider": "session",
    "SessionConfig": "session",
    "TensorSpec": "tensors",
    "load": "model",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
