"""Products that wait for their weights: with one row of activations, each weight is read for a single multiplication."""

from math import prod
from time import perf_counter

import numpy as np

from edgekit.diagnosis.findings import Finding
from edgekit.diagnosis.profile import Profile

__all__ = ["memory_bound_weights", "read_bandwidth"]

READERS = frozenset(
    {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "LSTM", "GRU", "RNN", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QGemm"}
    | {"MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul", "MatMulNBits", "QAttention", "Attention"}
)
# Fewer stay in a core's own cache from one call to the next.
LEAST_BYTES = 2_000_000
# Of what the machine can read, above which reading is what a node waits for.
BOUND = 0.5
BUFFER_BYTES = 1 << 26
SHOWN = 5
WIDTHS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "uint8": 8}


def memory_bound_weights(profile: Profile) -> Finding | None:
    """Nodes that read their weights about as fast as this machine can; half of the bytes would take half of the time."""
    read: dict[str, tuple[float, int, str]] = {}
    for node in profile.own.wiring.nodes:
        if node.op_type in READERS:
            stored = [profile.own.wiring.stored_input(node, index) for index in range(len(node.input))]
            weights = [tensor for tensor in stored if tensor is not None and prod(tensor.shape) >= 2 and len(tensor.shape) >= 2]
            size, time = sum(tensor.size_bytes for tensor in weights), profile.own.time_us(node)
            if size >= LEAST_BYTES and time > 0:
                read[node.name] = (time, size, max(weights, key=lambda tensor: tensor.size_bytes).dtype)
    if not read:
        return None
    bandwidth = read_bandwidth()
    bound = {name: row for name, row in read.items() if row[1] / row[0] * 1e6 >= BOUND * bandwidth}
    if not bound:
        return None
    # From 32 bits to 8, or from 8 to 4: what is read less is not waited for.
    won = sum(time * (0.75 if WIDTHS.get(dtype, 8) == 32 else 0.5) for time, _, dtype in bound.values())
    worst = sorted(bound, key=lambda name: -bound[name][0])
    wide = any(WIDTHS.get(dtype, 8) >= 16 for _, _, dtype in bound.values())
    return Finding(
        name="memory-bound-weights",
        kind="slow",
        impact=won / profile.total_us,
        title=f"{len(bound)} products wait for their weights, {sum(size for _, size, _ in bound.values()) / 1e6:.0f} MB of them",
        evidence=[
            f"this machine reads {bandwidth / 1e9:.1f} GB/s with one thread",
            *(_told(name, *bound[name][:2]) for name in worst[:SHOWN]),
        ],
        advice="store them in fewer bits ("
        + ("dynamic int8, " if wide else "")
        + "weights-int4-b32), or run several inputs at once",
        nodes=worst,
    )


def _told(name: str, time_us: float, size: int) -> str:
    return f"{name}: {size / 1e6:.1f} MB in {time_us:.0f} µs, {size / time_us / 1e3:.1f} GB/s"


def read_bandwidth() -> float:
    """Bytes a second that one thread reads from memory: the best of a few sums over 64 MB."""
    values = np.ones(BUFFER_BYTES // 8, np.uint64)
    best = np.inf
    for _ in range(4):
        start = perf_counter()
        np.bitwise_or.reduce(values)
        best = min(best, perf_counter() - start)
    return BUFFER_BYTES / best
