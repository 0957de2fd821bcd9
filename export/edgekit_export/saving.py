"""Writing a single model file aside and swapping it in."""

from pathlib import Path

from edgekit_export.graph import Graph
from edgekit_export.swap import translated_write_errors, workspace
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
        with workspace(path) as folder:
            aside, data = folder / path.name, f"{path.name}.data"
            graph.save(aside)
            # Data first: a model file is never there before the weights that it names.
            if graph.oversized:
                (folder / data).replace(path.with_name(data))
            aside.replace(path)
            if not graph.oversized:
                path.with_name(data).unlink(missing_ok=True)  # of the model that stood there before
