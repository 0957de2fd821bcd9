"""Olive: its passes over the ONNX file, opened by onnxruntime's CPU provider with one thread."""

# The libraries are in the peer's own environment.
# mypy: disable-error-code="import-not-found"

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.rivals.onnxruntime_tools import open_model
from benchmarks.rivals.serving import Arrays, Material

__all__ = ["WAYS", "build", "open_model"]

WAYS = {
    "static": "Olive: peephole optimizer and static quantization, U8S8 per channel",
    "dynamic": "Olive: peephole optimizer and dynamic quantization with its defaults",
}
SUFFIX = ".onnx"


def build(way: str, material: Material, out: Path) -> None:
    """Writes the model of one of `WAYS`."""
    import olive.workflows
    import torch
    from olive.data.registry import Registry

    class Feeds(torch.utils.data.Dataset):  # type: ignore[misc, type-arg, unused-ignore]
        """The calibration feeds, each with a label that nobody looks at."""

        def __init__(self) -> None:
            self._feeds = material.calibration

        def __len__(self) -> int:
            return len(self._feeds)

        def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], int]:
            feed: Arrays = self._feeds[index]
            return {name: torch.from_numpy(array) for name, array in feed.items()}, 0

    @Registry.register_dataset("edgekit_feeds")  # type: ignore[untyped-decorator, unused-ignore]
    def edgekit_feeds(**_: object) -> Feeds:
        return Feeds()

    static = {"type": "OnnxStaticQuantization", "data_config": "feeds", "per_channel": True, "activation_type": "uint8"}
    with TemporaryDirectory() as folder:
        olive.workflows.run(
            {
                "input_model": {"type": "ONNXModel", "model_path": str(material.onnx)},
                "systems": {
                    "here": {
                        "type": "LocalSystem",
                        "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
                    }
                },
                "data_configs": [
                    {
                        "name": "feeds",
                        "load_dataset_config": {"type": "edgekit_feeds"},
                        "pre_process_data_config": {"type": "skip_pre_process"},
                        "post_process_data_config": {"type": "skip_post_process"},
                        "dataloader_config": {"type": "no_auto_batch_dataloader"},
                    }
                ],
                "passes": {
                    "peephole": {"type": "OnnxPeepholeOptimizer"},
                    "quantize": static if way == "static" else {"type": "OnnxDynamicQuantization"},
                },
                "target": "here",
                "cache_dir": f"{folder}/cache",
                "output_dir": f"{folder}/out",
                "no_artifacts": True,
            }
        )
        found = sorted(Path(folder, "out").rglob("*.onnx"))
        if len(found) != 1:
            raise RuntimeError(f"Olive wrote {[file.name for file in found]}, expected one model; its log has the reason")
        _as_one_file(found[0], out)


def _as_one_file(model: Path, out: Path) -> None:
    """The model with its weights inside, since Olive keeps them beside it."""
    import onnx

    aside = out.with_suffix(".aside")
    onnx.save(onnx.load(model), aside)
    shutil.move(aside, out)
