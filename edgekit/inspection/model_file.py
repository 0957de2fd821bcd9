"""Reading an ``.onnx`` file without its weights, and checking that the files of its weights are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from edgekit.inspection.weights import dtype_name, nodes_of, tensors_of
from edgekit_runtime.errors import GraphError
from edgekit_runtime.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["ModelFile", "read_model", "specs"]


@dataclass(frozen=True)
class ModelFile:
    """A model as it lies on disk.

    Attributes:
        path: The ``.onnx`` file.
        proto: What it holds; data in files of their own is not read.
        external: Files beside it that hold weights.
        size_bytes: All these files together.
    """

    path: Path
    proto: onnx.ModelProto
    external: list[Path]
    size_bytes: int


def read_model(path: Path) -> ModelFile:
    """Reads an ``.onnx`` file.

    Raises:
        GraphError: It is missing, is not an ONNX model, or a file with its weights is missing or too short.
    """
    import onnx

    if path.is_dir():
        raise GraphError(f"inspect {path}: it is a directory without a manifest.json; give a bundle or an .onnx file")
    if path.suffix == ".ort":
        raise GraphError(
            f"inspect {path}: it is in onnxruntime's own format, in which operators cannot be read; inspect the .onnx file "
            "that it was made from"
        )
    try:
        proto = onnx.load(path, load_external_data=False)
    except FileNotFoundError as error:
        raise GraphError(f"inspect {path}: there is no such file") from error
    except OSError as error:
        raise GraphError(f"inspect {path}: it cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise
    except Exception as error:
        # protobuf's own DecodeError comes from one of three implementations of it.
        raise GraphError(
            f"inspect {path}: it is damaged or not an ONNX model ({' '.join(str(error).split())}); export it or copy it again"
        ) from error
    if not all(isinstance(text, str) for text in _texts(proto)):
        raise GraphError(f"inspect {path}: it is damaged (a name in it is not text); export it or copy it again")
    if not proto.graph.output or not proto.opset_import:
        raise GraphError(f"inspect {path}: it is not a whole ONNX model (no outputs or no opset); export it or copy it again")
    external = _external_files(path, proto)
    return ModelFile(path, proto, external, path.stat().st_size + sum(file.stat().st_size for file in external))


def specs(values: list[onnx.ValueInfoProto]) -> list[str]:
    """Inputs or outputs as text, ``name dtype[axes]``."""
    return [_spec(value) for value in values]


def _spec(value: onnx.ValueInfoProto) -> str:
    if not value.type.HasField("tensor_type"):
        return f"{value.name} {value.type.WhichOneof('value') or 'of unknown type'}"
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return f"{value.name} {dtype_name(tensor.elem_type)} of unknown rank"
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") else axis.dim_param or f"{value.name}_{index}"
        for index, axis in enumerate(tensor.shape.dim)
    )
    return str(TensorSpec(value.name, dtype_name(tensor.elem_type), shape))


def _texts(proto: onnx.ModelProto) -> Iterator[object]:
    """Every name in a model. protobuf gives bytes for one that is not text, and everything after would stumble over it."""
    yield from (proto.producer_name, proto.producer_version)
    yield from (entry.domain for entry in proto.opset_import)
    for value in (*proto.graph.input, *proto.graph.output):
        yield value.name
        yield from (axis.dim_param for axis in value.type.tensor_type.shape.dim)
    for node in nodes_of(proto):
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in tensors_of(proto):
        yield tensor.name
        if tensor.file is not None:
            yield tensor.file


def _external_files(path: Path, proto: onnx.ModelProto) -> list[Path]:
    """Files that hold weights, in the order in which they are named; each is long enough."""
    needed: dict[str, int] = {}
    for stored in tensors_of(proto):
        if stored.file is not None:
            needed[stored.file] = max(needed.get(stored.file, 0), stored.file_end)
    for name, end in needed.items():
        if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise GraphError(f"inspect {path}: it wants weights from {name!r}, which is outside its own folder; refused")
        file = path.parent / name
        if not file.is_file():
            raise GraphError(f"inspect {path}: its weights should be in {name}, which is not beside it; copy that file, too")
        if file.stat().st_size < end:
            raise GraphError(
                f"inspect {path}: {name} has {file.stat().st_size} bytes, the model wants {end}; it is truncated, copy it again"
            )
    return [path.parent / name for name in needed]
