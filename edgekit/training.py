"""Compression that needs training, on a recipe: each function fits into a user's own training loop."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from edgekit.calibration_data import feeds_of
from edgekit.recipe import Recipe
from edgekit.source import example_of
from edgekit.target import load_target
from edgekit_runtime.errors import TargetError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit_export import Distillation, FakeQuantized, Pruned
    from edgekit_export.calibration.ranges import Method

__all__ = ["distil", "prune", "qat"]


def qat(
    module: "nn.Module",
    recipe: Recipe,
    *,
    weights: Literal["per-channel", "per-tensor"] = "per-channel",
    flavour: str | None = None,
    target: str = "host",
    method: "Method" = "mse",
    skip: Sequence[str] = (),
) -> "FakeQuantized":
    """A copy of a module that computes in rounded integers, for quantization-aware training.

    ::

        trained = edgekit.qat(module, recipe)
        for x, y in batches:
            loss(trained(x), y).backward(); optimizer.step(); optimizer.zero_grad()
        trained.export("model.onnx")

    To have it measured and shipped: ``edgekit.deploy(dataclasses.replace(recipe, variants={"qat": trained.frozen}))``.

    Args:
        module: The trained float module; it is left as it is.
        recipe: Says what the module takes; its calibration gives the first steps.
        weights: Whether each output channel of a weight has a step of its own, or the whole weight one.
        flavour: Number formats, such as ``u8s8``; the first that suits `target` where left out.
        target: A target's name, or the path of its TOML file.
        method: How ranges are found in what calibration saw.
        skip: Submodules whose weights stay float, by name.

    Raises:
        TraceError: ``torch.export`` cannot follow the module.
        CalibrationError: The recipe has no calibration data, or it does not fit.
        TargetError: The target is unknown, or computes nothing in 8 bits.
        CompressionError: A setting is unknown, or there is nothing to quantize.
    """
    from edgekit_export import quantization_aware

    feeds, _ = feeds_of(recipe)
    return quantization_aware(
        module,
        example_of(recipe),
        feeds,
        recipe.dynamic,
        recipe.outputs,
        flavour=flavour or _first_flavour(target),
        weights=weights,
        method=method,
        skip=skip,
    )


def prune(
    module: "nn.Module",
    recipe: Recipe,
    *,
    keep: float = 0.5,
    importance: Literal["l1", "l2", "batchnorm", "taylor"] = "l2",
    losses: "Iterable[Tensor] | None" = None,
    multiple: int = 8,
    skip: Sequence[str] = (),
) -> "Pruned":
    """Removes the channels that matter least; the result's ``module`` is an ordinary, narrower one, to be trained further.

    ::

        smaller = edgekit.prune(module, recipe, keep=0.5).module

    Args:
        module: It is left as it is.
        recipe: Says what the module takes.
        keep: Share of the multiply-adds that may stay.
        importance: How channels are ranked; ``taylor`` is the best, and needs `losses`.
        losses: A scalar loss of `module` for each of a few batches: ``(loss(module(x), y) for x, y in batches)``.
        multiple: Each group of channels keeps a multiple of this many; smaller groups stay whole.
        skip: Submodules whose weights keep their size, by name.

    Raises:
        TraceError: ``torch.export`` cannot follow the module.
        CompressionError: Nothing can be removed, or not as much as asked; says what stands in the way.
    """
    from edgekit_export import prune as remove

    return remove(
        module, example_of(recipe), recipe.dynamic, keep=keep, importance=importance, losses=losses, multiple=multiple, skip=skip
    )


def distil(
    student: "nn.Module",
    teacher: "nn.Module",
    *,
    temperature: float = 4.0,
    hard: float = 0.1,
    features: Mapping[str, str] | None = None,
    feature_weight: float = 100.0,
    logits: "Callable[[Any], Tensor] | None" = None,
) -> "Distillation":
    """A loss by which a student learns what the teacher answers.

    ::

        loss = edgekit.distil(student, teacher)
        for x, y in batches:
            loss(x, y).backward(); optimizer.step(); optimizer.zero_grad()

    Args:
        student: What the optimizer trains.
        teacher: Copied, in eval mode, never changed.
        temperature: Softness of the answers that are compared.
        hard: Share of cross-entropy with the labels, where a call gives any.
        features: Submodules whose outputs are compared too, student's name to teacher's.
        feature_weight: What their distance is multiplied by.
        logits: Picks the logits among what a module gives; its first tensor where left out.

    Raises:
        CompressionError: A setting is out of its range, or a submodule is not there.
    """
    from edgekit_export import Distillation
    from edgekit_export.training.distillation import first_tensor

    return Distillation(
        student,
        teacher,
        temperature=temperature,
        hard=hard,
        features=features,
        feature_weight=feature_weight,
        logits=logits or first_tensor,
    )


def _first_flavour(target: str) -> str:
    """The first flavour with 8-bit activations that suits a target."""
    flavours = load_target(target).static
    found = next((name for name in flavours if "16" not in name), None)
    if found is None:
        raise TargetError(
            f"fake-quantize for {target}: it computes nothing statically in 8 bits ({', '.join(flavours) or 'no flavour'}); name "
            "another target, or a flavour"
        )
    return found
