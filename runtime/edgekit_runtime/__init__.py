"""The part of edgekit that runs on the device: it opens a bundle with numpy and onnxruntime alone.

>>> from edgekit_runtime import load
>>> model = load("fashion.edge")                      # doctest: +SKIP
>>> model({"image": image})["logits"]                 # doctest: +SKIP
"""

from edgekit_runtime.errors import (
    BundleError,
    EdgekitError,
    InputError,
    ProviderError,
    SelfTestError,
    SessionError,
)
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
