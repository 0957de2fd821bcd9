"""A network that does next to nothing, one Relu of one number: what each peer's call costs before it computes anything."""

import json
import shutil
from pathlib import Path

import numpy as np

__all__ = ["NOTHING", "NOTHING_FEED", "write_nothing"]

NOTHING = "nothing"
NOTHING_FEED = {"given": np.full((1, 1), 0.5, np.float32)}


def write_nothing(folder: Path) -> Path:
    """Writes its material, in the same form as `benchmarks.rivals.material.write_material`, where it is not there yet."""
    if folder.exists():
        return folder
    import onnx
    import torch
    from onnx import TensorProto, helper

    aside = folder.with_name(f".{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    given, same = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("given", "same"))
    graph = helper.make_graph([helper.make_node("Relu", ["given"], ["same"])], NOTHING, [given], [same])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), aside / "model.onnx")
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.from_numpy(NOTHING_FEED["given"]),)), aside / "module.pt2")
    (aside / "signature.json").write_text(json.dumps({"inputs": ["given"], "outputs": ["same"]}))
    for kind, feed in (("calibration", NOTHING_FEED), ("evaluation", NOTHING_FEED), ("reference", {"same": NOTHING_FEED["given"]})):
        (aside / kind).mkdir()
        np.savez(aside / kind / "000.npz", **feed)
    aside.replace(folder)
    return folder
