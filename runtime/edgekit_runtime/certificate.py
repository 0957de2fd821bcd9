"""What a bundle was seen to do on one kind of processor, as its manifest keeps it."""

from typing import Literal

import msgspec

from edgekit_runtime.measurement import Interval

__all__ = ["Certificate"]


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the cross-ISA certificate.

    Attributes:
        isa: The place that it was run at: ``host``, a board's name, or a device's.
        kind: ``host``, ``emulated`` or ``device``.
        processor: What the place said of its processor.
        features: Instruction sets that matter to int8 and that it has.
        status: ``certified``: inside the budget at the worst end of the interval, too; ``passed``: inside it; ``failed``.
        reason: Why, in one sentence with its figures.
        examples: Evaluation examples that it was run on.
        examples_of: How many the recipe has; 0 where there was none.
        metric: The metric there; ``None`` without a recipe.
        metric_drop: Float's metric, on the host and on the same examples, less that.
        metric_drop_ci: Its 95 % interval, a paired bootstrap.
        sqnr_db: Outputs there against the float model's on the host; ``None`` where they are equal.
        lsb: Output values by their distance from what integer arithmetic gives without saturation, in steps of the output's
            quantization, or of 1/255 of the output's range where that is not known: counts for ``0``, ``1``, ``2``, ``3-4``,
            ``5-8`` and ``>8``.
        argmax_agreement: Share of the first output's vectors whose largest element is where the float model's is; ``None`` where
            that output has no vectors.
        conversions: Q/DQ nodes that onnxruntime's optimization leaves there, but for those at the model's own inputs and outputs.
        integer_nodes: Nodes that compute with integers there, after that optimization.
        instructions: Per call, in the median; ``None`` where they are not counted.
        peak_rss_bytes: Peak memory of the process that ran it there; under an emulator the emulator's own is part of it.
        onnxruntime: Its release there.
        created: UTC time in ISO 8601.
    """

    isa: str
    kind: Literal["host", "emulated", "device"]
    processor: str
    features: list[str]
    status: Literal["certified", "passed", "failed"]
    reason: str
    examples: int
    examples_of: int
    metric: float | None = None
    metric_drop: float | None = None
    metric_drop_ci: Interval | None = None
    sqnr_db: float | None = None
    lsb: dict[str, int] = {}
    argmax_agreement: float | None = None
    conversions: int = 0
    integer_nodes: int = 0
    instructions: int | None = None
    peak_rss_bytes: int | None = None
    onnxruntime: str = ""
    created: str = ""

    @property
    def fusion(self) -> str:
        """Whether what the model quantizes computes with integers there, in a word or two."""
        if not self.integer_nodes:
            return "not fused" if self.conversions else "float"
        return "partly fused" if self.conversions else "fused"
