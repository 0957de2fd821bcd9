"""LiteRT from PyTorch's exported program: float32, and its quantizer's static and dynamic int8; XNNPACK with one thread."""

# The libraries are in the peer's own environment.
# mypy: disable-error-code="import-not-found"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.serving import Arrays, Material, Opened

__all__ = ["WAYS", "build", "open_model"]

WAYS = {
    "float32": "LiteRT float32",
    "int8": "LiteRT static int8 (recipe static_wi8_ai8)",
    "dynamic": "LiteRT dynamic int8 (recipe dynamic_wi8_afp32)",
}
SUFFIX = ".tflite"


def build(way: str, material: Material, out: Path) -> None:
    """Writes the model of one of `WAYS`; the quantized ones are made from the float one."""
    given = out.with_name("float32.tflite")
    if not given.exists():
        import litert_torch
        import torch

        torch.set_num_threads(1)
        litert_torch.convert(material.module(), material.arguments(material.calibration[0])).export(str(given))
    if way == "float32":
        return
    from ai_edge_quantizer import qtyping, quantizer, recipe

    work = quantizer.Quantizer(str(given))
    work.load_quantization_recipe(recipe.static_wi8_ai8() if way == "int8" else recipe.dynamic_wi8_afp32())
    if way == "int8":  # inputs and outputs stay float, as everybody else's
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            work.update_quantization_recipe(".*", end, algorithm_key=quantizer.algorithm_manager.AlgorithmName.NO_QUANTIZE)
    ranges = None
    if work.need_calibration:
        names, dtypes = _names(given, material), _dtypes(given)
        feeds = [{names[name]: array.astype(dtypes[names[name]]) for name, array in feed.items()} for feed in material.calibration]
        ranges = work.calibrate({"serving_default": feeds})
    work.quantize(ranges).export_model(out, overwrite=True)


def _names(file: Path, material: Material) -> dict[str, str]:
    """The converter calls inputs args_0, args_1, …: its name for each of ours."""
    interpreter: Any = _interpreter(file)
    (signature,) = interpreter.get_signature_list().values()
    return dict(zip(material.inputs, sorted(signature["inputs"], key=_place), strict=True))


def _dtypes(file: Path) -> dict[str, Any]:
    """Of each input, by the converter's name: it makes int32 of int64."""
    details = _interpreter(file).get_signature_runner().get_input_details()
    return {name: detail["dtype"] for name, detail in details.items()}


def _place(name: str) -> int:
    return int("".join(letter for letter in name if letter.isdigit()) or 0)


def _interpreter(file: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def open_model(file: Path, material: Material) -> Opened:
    """Opens a model in the interpreter, which gives what it can to XNNPACK."""
    interpreter = _interpreter(file)
    runner = interpreter.get_signature_runner()
    names = _names(file, material)
    inputs = {name: int(runner.get_input_details()[names[name]]["index"]) for name in material.inputs}
    dtypes = _dtypes(file)
    details = runner.get_output_details()
    outputs = [int(details[name]["index"]) for name in sorted(details, key=_place)]

    def cast(feed: Arrays) -> Arrays:
        return {name: feed[name].astype(dtypes[names[name]]) for name in inputs}

    def fill(feed: Arrays) -> None:
        for name, index in inputs.items():
            interpreter.set_tensor(index, feed[name])

    def bind(feed: Arrays) -> Callable[[], object]:
        ready = cast(feed)

        def call() -> object:
            fill(ready)  # an invocation may use the memory of its inputs
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

        return call

    def run(feed: Arrays) -> Arrays:
        fill(cast(feed))
        interpreter.invoke()
        return {name: np.array(interpreter.get_tensor(index)) for name, index in zip(material.outputs, outputs, strict=True)}

    return Opened(run, bind)
