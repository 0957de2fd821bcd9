"""Sensitivity: what quantizing a node by itself costs, and what sparing it alone wins."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgekit.inspection.sensitivity_study import Score, Study
from edgekit.progress import Progress, Quiet
from edgekit_runtime.errors import QuantizationError
from edgekit_runtime.measurement import finite

if TYPE_CHECKING:
    from edgekit_export.sensitivity import Group

__all__ = ["GroupSensitivity", "LayerError", "Sensitivity", "sensitivity_of", "variants_of", "worst"]

# JSON has no infinity; an output of which nothing is left gets a figure that no other one reaches.
LOWEST_DB = -999.0


class GroupSensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """One group of nodes.

    Attributes:
        name: The first node's name; for ``shared`` the tensor's.
        kind: ``node``: a node with the activation and whatever else goes with it. ``shared``: all that writes or reads one tensor;
            sparing only some of it leaves that tensor rounded.
        nodes: Names of its nodes; `StaticInt8.spared` takes them.
        operators: Their operators.
        weight_bytes: Size of their weights in float32.
        alone_sqnr_db: Of the outputs with this group quantized and all others float; ``None`` where they equal float's.
        alone_metric_drop: What the metric loses then.
        spared_sqnr_gain_db: What the outputs win with this group float and all others quantized; ``None`` where they then equal
            float's.
        spared_metric_gain: What the metric wins then.
    """

    name: str
    kind: Literal["node", "shared"]
    nodes: list[str]
    operators: list[str]
    weight_bytes: int
    alone_sqnr_db: float | None
    alone_metric_drop: float | None
    spared_sqnr_gain_db: float | None
    spared_metric_gain: float | None


class LayerError(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor with everything quantized.

    Attributes:
        tensor: Its name.
        sqnr_db: Against the same tensor in float, errors of all layers before it included; ``None`` where they are equal.
    """

    tensor: str
    sqnr_db: float | None


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """What each group does.

    Attributes:
        model: The recipe's name.
        scheme: The scheme's name.
        feeds: How many runs of the model the figures come from.
        examples: On how many of the recipe's examples the metric is; ``None`` where there is no metric.
        metric: Float's metric on them; ``None`` where there is none.
        quantized_metric: The metric with everything quantized.
        quantized_sqnr_db: SQNR of the outputs with everything quantized; ``None`` where they equal float's.
        seconds: How long the variants took.
        groups: Worst first: by what they cost alone.
        layers: The tensors between, in the graph's order; empty where they were not asked for.
        notes: What a user should know, in sentences.
    """

    model: str
    scheme: str
    feeds: int
    examples: int | None
    metric: float | None
    quantized_metric: float | None
    quantized_sqnr_db: float | None
    seconds: float
    groups: list[GroupSensitivity]
    layers: list[LayerError]
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """The JSON document of ``edgekit inspect --sensitivity --json``."""
        return dict(msgspec.json.decode(msgspec.json.encode(self)))


def variants_of(groups: Sequence[Group]) -> int:
    """How many choices of nodes `sensitivity_of` measures."""
    return 1 + 2 * len(groups)


def sensitivity_of(
    study: Study, *, model: str, scheme: str, layers: bool = False, notes: Sequence[str] = (), progress: Progress | None = None
) -> Sensitivity:
    """Measures every group alone and spared.

    Args:
        study: The graph and the examples.
        model: The recipe's name.
        scheme: The scheme's name.
        layers: Whether to look at the tensors between too.
        notes: What else a user should know.
        progress: Told how far it is.

    Raises:
        SessionError: onnxruntime failed.
    """
    progress = progress or Quiet()
    start = perf_counter()
    groups, everything = study.switchable.groups, study.switchable.nodes
    total = variants_of(groups)
    examples = len(study.examples.indices) or None
    progress.stage(f"measure {len(groups)} groups of nodes on {len(study.examples.feeds)} runs of the model")
    float_score, quantized = study.measure(()), study.measure(everything)
    progress.advance(1, total)
    found = []
    for index, group in enumerate(groups):
        alone = study.measure(group.nodes)
        progress.advance(2 * index + 2, total)
        spared = study.measure([name for name in everything if name not in group.nodes])
        progress.advance(2 * index + 3, total)
        found.append(_figures(group, float_score, quantized, alone, spared))
    seconds = perf_counter() - start
    inside = [LayerError(tensor=name, sqnr_db=_decibels(value)) for name, value in study.layers().items()] if layers else []
    told = [f"no metric for some variants: {study.failure}; give more --examples"] if study.failure else []
    return Sensitivity(
        model=model,
        scheme=scheme,
        feeds=len(study.examples.feeds),
        examples=examples,
        metric=float_score.metric,
        quantized_metric=quantized.metric,
        quantized_sqnr_db=_decibels(quantized.sqnr_db),
        seconds=seconds,
        groups=sorted(found, key=lambda group: inf if group.alone_sqnr_db is None else group.alone_sqnr_db),
        layers=inside,
        notes=[*notes, *told],
    )


def worst(sensitivity: Sensitivity, *, count: int | None = None, until_sqnr_db: float | None = None) -> list[str]:
    """Names of the nodes to spare first: those whose sparing wins most.

    Args:
        sensitivity: The figures.
        count: How many groups; each is a node with what follows it.
        until_sqnr_db: As few groups as should bring the outputs to this SQNR, if their errors simply add. Neighbours win more
            together than by themselves, so this rather asks for too many; `edgekit.inspection.sparing.spare_until` measures.

    Raises:
        QuantizationError: Not exactly one of `count` and `until_sqnr_db` is given.
    """
    if (count is None) == (until_sqnr_db is None):
        raise QuantizationError("sensitivity: give either a count of groups or an SQNR to reach")
    base = -LOWEST_DB if sensitivity.quantized_sqnr_db is None else sensitivity.quantized_sqnr_db
    noise = 10 ** (-base / 10)
    wins = {
        group.name: noise if group.spared_sqnr_gain_db is None else noise - 10 ** (-(base + group.spared_sqnr_gain_db) / 10)
        for group in sensitivity.groups
    }
    single = sorted((group for group in sensitivity.groups if group.kind == "node"), key=lambda group: -wins[group.name])
    if count is not None:
        return [name for group in single[:count] for name in group.nodes]
    assert until_sqnr_db is not None
    names: list[str] = []
    for group in single:
        if noise <= 10 ** (-until_sqnr_db / 10) or wins[group.name] <= 0:
            break
        names += group.nodes
        noise -= wins[group.name]
    return names


def _figures(group: Group, floats: Score, quantized: Score, alone: Score, spared: Score) -> GroupSensitivity:
    known = [score.metric for score in (floats, alone) if score.metric is not None]
    won = [score.metric for score in (spared, quantized) if score.metric is not None]
    base = _decibels(quantized.sqnr_db)
    after = _decibels(spared.sqnr_db)
    return GroupSensitivity(
        name=group.name,
        kind=group.kind,
        nodes=list(group.nodes),
        operators=list(group.operators),
        weight_bytes=group.weight_bytes,
        alone_sqnr_db=_decibels(alone.sqnr_db),
        alone_metric_drop=known[0] - known[1] if len(known) == 2 else None,
        spared_sqnr_gain_db=0.0 if base == after else None if base is None or after is None else after - base,
        spared_metric_gain=won[0] - won[1] if len(won) == 2 else None,
    )


def _decibels(value: float) -> float | None:
    return LOWEST_DB if value == -inf else finite(value)
