"""ExecuTorch on XNNPACK from PyTorch's exported program: float32, static int8 and dynamic int8 (pt2e); one thread."""

# The libraries are in the peer's own environment.
# mypy: disable-error-code="import-not-found"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rivals.serving import Arrays, Material, Opened

__all__ = ["WAYS", "build", "open_model"]

WAYS = {
    "float32": "ExecuTorch XNNPACK float32",
    "int8": "ExecuTorch XNNPACK static int8, symmetric per channel",
    "dynamic": "ExecuTorch XNNPACK dynamic int8, per channel",
}
SUFFIX = ".pte"


def build(way: str, material: Material, out: Path) -> None:
    """Writes the program of one of `WAYS`."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    torch.set_num_threads(1)
    module = material.module()
    example = material.arguments(material.calibration[0])
    if way != "float32":
        quantizer = XNNPACKQuantizer()
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=way == "dynamic"))
        prepared = prepare_pt2e(module, quantizer)
        with torch.no_grad():
            for feed in material.calibration:
                prepared(*material.arguments(feed))
        module = convert_pt2e(prepared)
    with torch.no_grad():
        program = to_edge_transform_and_lower(torch.export.export(module, example), partitioner=[XnnpackPartitioner()])
    out.write_bytes(program.to_executorch().buffer)


def open_model(file: Path, material: Material) -> Opened:
    """Loads a program; the pool has one thread."""
    import executorch.kernels.quantized  # noqa: F401 - registers the operators that XNNPACK did not take
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    torch.set_num_threads(1)
    portable_lib._unsafe_reset_threadpool(1)
    method: Any = Runtime.get().load_program(file).load_method("forward")
    if portable_lib._threadpool_get_thread_count() != 1:
        raise RuntimeError(f"the pool has {portable_lib._threadpool_get_thread_count()} threads, not one")
    names = material.outputs

    def bind(feed: Arrays) -> Callable[[], object]:
        arguments = material.arguments(feed)
        return lambda: method.execute(arguments)

    def run(feed: Arrays) -> Arrays:
        found = method.execute(material.arguments(feed))
        return {name: np.array(tensor) for name, tensor in zip(names, found, strict=True)}

    return Opened(run, bind)
