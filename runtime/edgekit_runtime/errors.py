"""Every error that edgekit raises on purpose.

The tree::

    EdgekitError
    ├── RecipeError            what the user wrote in a recipe does not hold
    ├── TargetError            a target is unknown, or its file does not hold
    ├── GraphError             a model file that cannot be read, parsed or checked
    ├── TraceError             PyTorch → ONNX failed; says which line and what to change
    ├── ParityError            the exported graph does not compute what the module computes
    ├── CalibrationError       calibration data is empty, not finite, or of the wrong shape
    ├── QuantizationError      a graph could not be quantized, or was left in float
    ├── CompressionError       a module cannot be fake-quantized, pruned or distilled as asked
    ├── EvaluationError        predictions or the metric failed
    ├── BundleError            a bundle is damaged, incomplete, unsafe or too new
    ├── InputError             what was fed to a loaded model does not fit it
    ├── SessionError           onnxruntime refused to open or to run a model
    │   └── ProviderError      the execution provider that was asked for is not there
    ├── SelfTestError          a bundle does not reproduce its golden outputs here
    ├── LabError               the emulated lab is not there, cannot be set up, or did not do what it should
    ├── DeviceError            a place to measure on is unknown, cannot be reached, or lacks what it needs
    │   └── ConnectionLostError   the connection to a worker broke; it may come back
    │       └── WorkerCrashedError   the worker itself ended; it would again
    ├── OutputError            a result could not be written
    └── MissingExtraError      an optional package is missing; says the pip command

A message says which operation, on what (names, shapes, dtypes), what was expected, and what to do next. The cause is
kept with ``raise … from``.
"""

__all__ = [
    "BundleError",
    "CalibrationError",
    "CompressionError",
    "ConnectionLostError",
    "DeviceError",
    "EdgekitError",
    "EvaluationError",
    "GraphError",
    "InputError",
    "LabError",
    "MissingExtraError",
    "OutputError",
    "ParityError",
    "ProviderError",
    "QuantizationError",
    "RecipeError",
    "SelfTestError",
    "SessionError",
    "TargetError",
    "TraceError",
    "WorkerCrashedError",
]


class EdgekitError(Exception):
    """Base of everything that edgekit raises on purpose: one clear message, meant for the user."""


class RecipeError(EdgekitError):
    """A recipe file is missing, raises, lacks a field or gives a wrong type."""


class TargetError(EdgekitError):
    """A target's name is unknown, or its TOML file does not hold."""


class GraphError(EdgekitError):
    """A model file cannot be read, parsed or checked."""


class TraceError(EdgekitError):
    """PyTorch → ONNX failed."""


class ParityError(EdgekitError):
    """An exported graph does not compute what the module computes."""


class CalibrationError(EdgekitError):
    """Calibration data is empty, not finite, or of the wrong dtype or shape."""


class QuantizationError(EdgekitError):
    """A graph could not be quantized, or the quantizer left it as it was."""


class CompressionError(EdgekitError):
    """A module cannot be fake-quantized, pruned or distilled as asked."""


class EvaluationError(EdgekitError):
    """Predictions or the metric failed, or the metric is not a finite number."""


class BundleError(EdgekitError):
    """A bundle is damaged, incomplete, unsafe, or newer than this runtime."""


class InputError(EdgekitError, ValueError):
    """A loaded model was given something that does not fit its inputs."""


class SessionError(EdgekitError):
    """onnxruntime refused to open or to run a model."""


class ProviderError(SessionError):
    """The execution provider that was asked for is not available, or did not take the model."""


class SelfTestError(EdgekitError):
    """A bundle does not reproduce its golden outputs on this machine."""


class LabError(EdgekitError):
    """The lab of emulated boards is not set up, cannot be, or its emulator failed."""


class DeviceError(EdgekitError):
    """A place to measure on is unknown, cannot be reached, refuses us, or lacks what it needs."""


class ConnectionLostError(DeviceError):
    """The connection to a worker broke. Connecting anew may help."""


class WorkerCrashedError(ConnectionLostError):
    """A worker's process ended by itself: a crash, or too little memory. Connecting anew does not help."""


class OutputError(EdgekitError):
    """A result could not be written: no space, no permission, or something else stands there."""


class MissingExtraError(EdgekitError, ImportError):
    """An optional package is missing; the message names the exact pip command."""
