"""The program that `legacy_tools` starts: GIVEN.onnx MADE.onnx MODEL_TYPE; prints the fusion counts as JSON on its last line.

It is started by its path, in a process of its own, and imports nothing of edgekit: onnxruntime-tools puts its folder on
``sys.path``, with modules of the same names as those of ``onnxruntime.transformers``.
"""

import importlib
import json
import sys

__all__ = ["main"]


def main(given: str, made: str, model_type: str) -> None:
    """Optimizes one file with onnxruntime-tools."""
    import onnx
    import onnx_ir as ir

    optimizer = importlib.import_module("onnxruntime_tools").optimizer
    # 0: its own fusions only. onnxruntime itself optimizes when a model is opened.
    optimized = optimizer.optimize_model(given, model_type, num_heads=0, hidden_size=0, opt_level=0)
    counts = {name: count for name, count in optimized.get_fused_operator_statistics().items() if count}
    model = optimized.model
    if all(entry.domain != "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    # It appends the nodes that it makes, wherever they belong.
    ordered = ir.from_proto(model)
    ordered.graph.sort()
    ir.save(ordered, made)
    sys.stdout.write(f"\n{json.dumps(counts)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
