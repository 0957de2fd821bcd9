"""Sums of products that saturate in 16 bits inside onnxruntime's kernels, on x86 without VNNI."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edgekit.diagnosis.error_account import decibels, error_power, share_wrong
from edgekit.diagnosis.findings import Finding
from edgekit.labs.host import PRECISE
from edgekit.recipe import Arrays
from edgekit_runtime.machine import machine
from edgekit_runtime.model import Model
from edgekit_runtime.session import CPU, Provider, SessionConfig, open_session

__all__ = ["saturating_sums"]


def saturating_sums(
    path: Path, provider: Provider, session: SessionConfig, feeds: Sequence[Arrays], reference: Sequence[Arrays], power: float
) -> tuple[Finding | None, float]:
    """Compares with onnxruntime's exact kernels, and gives the error's power that is left with them.

    Args:
        path: The quantized model.
        provider: What it runs on; only the CPU provider saturates.
        session: How it is opened.
        feeds: Inputs.
        reference: The float model's outputs on them.
        power: Power of the model's error as it runs.
    """
    if provider.name != CPU or machine().architecture != "x86_64" or power <= 0:
        return None, power
    config = msgspec.structs.replace(session, entries={**session.entries, **PRECISE})
    exact = Model(open_session(path, provider, config), path)
    left = error_power([exact(feed) for feed in feeds], reference)
    if left >= power:
        return None, power
    finding = Finding(
        name="saturating-sums",
        kind="wrong",
        impact=share_wrong(power) * (power - left) / power,
        title="sums of products with full 8-bit signed weights saturate in 16 bits on this processor, which has no VNNI",
        evidence=[
            f"outputs have {decibels(power):.1f} dB SQNR as it runs, {decibels(left):.1f} dB with onnxruntime's exact kernels"
        ],
        advice="quantize to u8s7 or u8u8 (reduce_range=True in onnxruntime's own quantizer); "
        "session.x64quantprecision=1 is exact, too, and slow",
    )
    return finding, left
