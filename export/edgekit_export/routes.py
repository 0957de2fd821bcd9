"""The ways from a module to an ONNX model, in the order in which they are tried.

``torch.export`` proves that axes declared free are free, and is the way that PyTorch keeps. Where it cannot follow a
module, TorchScript may: scripting keeps loops and branches that depend on data. TorchScript's tracing is no route: it freezes
Python values and branches into the graph, which no comparison on a few inputs is sure to notice. What any of them gives is
compared with the module before it is believed.
"""

import contextlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch

from edgekit_export.example_feeds import Dynamic
from edgekit_export.quiet import quiet
from edgekit_export.torch_module import TorchModel, as_tensors

__all__ = ["ROUTES", "Route", "quiet_torch"]

TORCHSCRIPT_OPSET = 17


@dataclass(frozen=True)
class Route:
    """One way of exporting: its name, and ``(model, feed, dynamic) -> ir.Model``."""

    name: str
    export: Callable[[TorchModel, Mapping[str, np.ndarray], Dynamic], ir.Model]


@contextlib.contextmanager
def quiet_torch() -> Iterator[None]:
    """Keeps the exporters' own notes (printed graphs, logs, deprecations among their internals) off the user's screen."""
    with quiet(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _silent_descriptors() -> Iterator[None]:
    """Keeps what TorchScript's C++ parts print themselves, past Python's streams, off the user's screen."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        for descriptor, original in zip((1, 2), kept, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


def dynamic_shapes(feed: Mapping[str, np.ndarray], dynamic: Dynamic) -> dict[str, dict[int, Any]]:
    """`dynamic` as torch.export takes it: one Dim a name, an entry an input."""
    dims: dict[str, Any] = {}
    shapes: dict[str, dict[int, Any]] = {}
    for name in feed:
        shapes[name] = {axis: dims.setdefault(label, torch.export.Dim(label)) for axis, label in dynamic.get(name, {}).items()}
    return shapes


def exported_program(model: TorchModel, feed: Mapping[str, np.ndarray], dynamic: Dynamic, *, strict: bool) -> Any:
    """The module as torch.export sees it."""
    return torch.export.export(
        model.module, (), as_tensors(feed), dynamic_shapes=dynamic_shapes(feed, dynamic) or None, strict=strict
    )


def _torch_export(*, strict: bool) -> Callable[[TorchModel, Mapping[str, np.ndarray], Dynamic], ir.Model]:
    def export(model: TorchModel, feed: Mapping[str, np.ndarray], dynamic: Dynamic) -> ir.Model:
        program = exported_program(model, feed, dynamic, strict=strict)
        converted = torch.onnx.export(program, dynamo=True, verbose=False, output_names=list(model.outputs))
        if converted is None:
            raise RuntimeError("torch.onnx.export gave no program")
        return converted.model

    return export


def _torchscript(
    compile_module: Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], Any],
) -> Callable[[TorchModel, Mapping[str, np.ndarray], Dynamic], ir.Model]:
    def export(model: TorchModel, feed: Mapping[str, np.ndarray], dynamic: Dynamic) -> ir.Model:
        parameters = list(inspect.signature(model.module.forward).parameters)
        if parameters[: len(feed)] != list(feed):
            raise TypeError(f"TorchScript takes inputs by position, and {list(feed)} are not the first of {parameters}")
        tensors = tuple(as_tensors(feed).values())
        buffer = io.BytesIO()
        with _silent_descriptors():
            torch.onnx.export(
                compile_module(model.module, tensors),
                tensors,
                buffer,  # type: ignore[arg-type]  # a stream is taken, the annotation names paths only
                dynamo=False,
                opset_version=TORCHSCRIPT_OPSET,
                input_names=list(feed),
                output_names=list(model.outputs),
                dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
            )
        return ir.from_proto(onnx.load_from_string(buffer.getvalue()))

    return export


def _script(module: torch.nn.Module, _: tuple[torch.Tensor, ...]) -> Any:
    return torch.jit.script(module)


ROUTES = (
    Route("torch.export", _torch_export(strict=False)),
    Route("torch.export strict", _torch_export(strict=True)),
    Route("torchscript", _torchscript(_script)),
)
