"""Distillation: a student learns from what the float teacher answers, and not from labels alone."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from edgekit_runtime.errors import CompressionError

__all__ = ["Distillation", "first_tensor", "soft_loss"]


def first_tensor(output: Any) -> Tensor:
    """The first tensor among a module's outputs: its logits, where it gives nothing else."""
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    if not leaves:
        raise CompressionError(f"distil: the module gave {type(output).__name__} without a tensor; give logits=, which picks one")
    return leaves[0]


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of softened answers, less the teacher's own entropy: zero where they agree.

    Hinton et al., *Distilling the Knowledge in a Neural Network* (arXiv:1503.02531): KL divergence at a temperature, times its
    square, so that gradients keep their size whatever the temperature is.

    Args:
        student: Logits, (..., classes).
        teacher: Logits, (..., classes).
        temperature: Above 0; the higher, the more the less likely classes count.

    Returns:
        The mean over all leading axes.
    """
    wanted = functional.log_softmax(teacher / temperature, dim=-1).flatten(0, -2)
    given = functional.log_softmax(student / temperature, dim=-1).flatten(0, -2)
    return functional.kl_div(given, wanted, reduction="batchmean", log_target=True) * temperature**2


class Distillation(nn.Module):
    """A loss for a student that learns from a teacher; it runs both.

    ::

        loss = Distillation(student, teacher)
        for x, y in batches:
            loss(x, y).backward()

    Args:
        student: What is trained. It is no part of this module's own parameters.
        teacher: It is copied, put in eval mode, and never changed.
        temperature: Softness of the answers that are compared.
        hard: Share of the loss that is cross-entropy with the labels, where a call gives any; 0 to 1.
        features: Submodules whose outputs are also compared, student's name to teacher's: their attention maps, squares summed
            over the channels and normalized (Zagoruyko and Komodakis, arXiv:1612.03928), so widths may differ.
        feature_weight: What their mean distance is multiplied by.
        logits: Picks the logits, (batch, classes), among what a module gives.

    Raises:
        CompressionError: A setting is out of its range, or a submodule is not there.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        temperature: float = 4.0,
        hard: float = 0.1,
        features: Mapping[str, str] | None = None,
        feature_weight: float = 100.0,
        logits: Callable[[Any], Tensor] = first_tensor,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise CompressionError(f"distil: temperature={temperature}, expected a number above 0")
        if not 0 <= hard <= 1:
            raise CompressionError(f"distil: hard={hard}, expected a share from 0 to 1")
        for side, module, names in (
            ("student", student, dict(features or {})),
            ("teacher", teacher, dict(features or {}).values()),
        ):
            known = dict(module.named_modules())
            if missing := [name for name in names if name not in known]:
                raise CompressionError(f"distil: features name {missing[0]!r}; the {side} has no such submodule")
        # In tuples, so that neither counts as a part of this module: an optimizer of its parameters would train the teacher.
        self._student = (student,)
        self._teacher = (copy.deepcopy(teacher).eval().requires_grad_(requires_grad=False),)
        self.temperature = temperature
        self.hard = hard
        self.features = dict(features or {})
        self.feature_weight = feature_weight
        self._logits = logits

    @property
    def student(self) -> nn.Module:
        """What is trained."""
        return self._student[0]

    @property
    def teacher(self) -> nn.Module:
        """What it learns from: a copy of what was given."""
        return self._teacher[0]

    def forward(self, inputs: Any, labels: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            inputs: A tensor, a tuple of forward's arguments, or a dict of them by name.
            labels: Classes, (batch,); left out, the teacher alone teaches.
        """
        with torch.no_grad():
            wanted, taught = _run(self.teacher, inputs, self.features.values())
        output, seen = _run(self.student, inputs, self.features)
        student, teacher = self._logits(output), self._logits(wanted)
        if student.shape != teacher.shape:
            raise CompressionError(
                f"distil: the student's logits are {list(student.shape)} and the teacher's {list(teacher.shape)}; they must agree"
            )
        loss = soft_loss(student, teacher, self.temperature)
        if labels is not None and self.hard > 0:
            loss = (1 - self.hard) * loss + self.hard * functional.cross_entropy(student, labels)
        for own, its in self.features.items():
            loss = loss + self.feature_weight / len(self.features) * _distance(seen[own], taught[its], own)
        return loss


def _run(module: nn.Module, inputs: Any, names: Any) -> tuple[Any, dict[str, Tensor]]:
    """The module's output, and what the named submodules gave on the way."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            seen[name] = first_tensor(output)

        return hook

    hooks: list[RemovableHandle] = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        if isinstance(inputs, Mapping):
            return module(**inputs), seen
        return module(*inputs) if isinstance(inputs, (tuple, list)) else module(inputs), seen
    finally:
        for hook in hooks:
            hook.remove()


def _distance(one: Tensor, other: Tensor, name: str) -> Tensor:
    """Mean squared distance of two attention maps; channels lie on axis 1, (batch, channels, ...)."""
    if one.dim() < 3 or one.shape[2:] != other.shape[2:]:
        raise CompressionError(
            f"distil: feature {name!r} is {list(one.shape)} in the student and {list(other.shape)} in the teacher, expected "
            "(batch, channels, ...) with the same sizes behind the channels"
        )
    maps = [functional.normalize(features.square().sum(1).flatten(1), dim=1) for features in (one, other)]
    return (maps[0] - maps[1]).square().mean()
