"""Writing a single model file aside and swapping it in."""

import os
import tempfile
from pathlib import Path

from edgekit_export.graph import Graph
from edgekit_export.swap import translated_write_errors
from edgekit_runtime.errors import OutputError

__all__ = ["save_aside"]


def save_aside(graph: Graph, path: Path, source: Path | None = None) -> None:
    """Writes a model file, so that a kill leaves the old file, the new one, or nothing.

    Args:
        graph: What to write.
        path: Where to.
        source: A file that must not be overwritten, since it is what the graph was made from.

    Raises:
        OutputError: It cannot be written there.
    """
    if path.suffix != ".onnx":
        raise OutputError(f"write {path}: expected a name that ends in .onnx")
    if path.is_dir():
        raise OutputError(f"write {path}: it is a directory; give a file name that ends in .onnx")
    if source is not None and path.exists() and path.samefile(source):
        raise OutputError(f"write {path}: that is the model it is made from; give another --out")
    with translated_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.{os.getpid()}.", suffix=".tmp", dir=path.parent) as folder:
            aside = Path(folder) / path.name
            graph.save(aside)
            # Data first: a model file is never there before the weights that it names.
            for file in sorted(Path(folder).iterdir(), key=lambda file: file == aside):
                file.replace(path.parent / file.name)
