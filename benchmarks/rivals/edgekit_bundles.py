"""edgekit's own bundles, as a device opens them, with one thread."""

from collections.abc import Callable
from pathlib import Path

from benchmarks.rivals.serving import Arrays, Material, Opened

__all__ = ["WAYS", "build", "open_model"]

WAYS = {
    "host": "what edgekit deploy --target host chose",
    "cpu": "what edgekit deploy chose with onnxruntime's CPU provider alone",
}
SUFFIX = ".edge"


def build(way: str, material: Material, out: Path) -> None:
    """Bundles are deployed by the driver, which knows the recipe."""
    raise ValueError(f"{way} of {material.folder.name}: {out} comes from edgekit deploy")


def open_model(file: Path, material: Material) -> Opened:
    """Opens a bundle; its outputs are those of the material."""
    import edgekit_runtime

    model = edgekit_runtime.load(file, threads=1)
    if [spec.name for spec in model.outputs] != material.outputs:
        raise ValueError(f"{file} gives {[spec.name for spec in model.outputs]}, expected {material.outputs}")

    def bind(feed: Arrays) -> Callable[[], object]:
        return lambda: model(feed)

    return Opened(lambda feed: model(feed), bind)
