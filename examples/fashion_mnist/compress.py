"""Train SoraImage for int8: fake-quantized as it is, and pruned to half of its multiply-adds, distilled, then fake-quantized.

    python examples/fashion_mnist/compress.py --data /usr/share/datasets/fashion-mnist

Each stage goes on from its checkpoint, after the last finished round, to the same result, and a stage that is done is read
back. The float network that the example carries is the teacher throughout. Settings are fixed: nothing is chosen by the
test images, which this file never reads; the held-out images are there to look at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from fashion_data import read_training
from recipe import HERE, build, recipe
from torch import Tensor, nn
from train import accuracy, augment, to_tensors

import edgekit

if TYPE_CHECKING:
    from edgekit_export import FakeQuantized

WARM_UP = 0.05
"""Share of a stage in which the learning rate rises."""


@dataclass(frozen=True)
class Settings:
    """What a stage of training depends on, besides the weights that it starts from.

    A round draws its images anew and ends in a checkpoint; four rounds see as many images as an epoch.
    """

    rounds: int
    learning_rate: float
    images: int = 13_750
    batch_size: int = 128
    weight_decay: float = 0.0
    temperature: float = 4.0
    hard: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything that the results depend on.

    Attributes:
        keep: Share of the multiply-adds that pruning leaves.
        ranking_batches: Batches that rank the channels.
        distil: Training of the pruned network.
        quantize: Training with fake-quantizers.
        flavour: Number formats.
    """

    keep: float = 0.5
    ranking_batches: int = 32
    distil: Settings = Settings(rounds=8, learning_rate=1.5e-3, weight_decay=0.02)
    quantize: Settings = Settings(rounds=2, learning_rate=2e-4)
    flavour: str = "u8s7"


@dataclass
class Training:
    """The state that a checkpoint holds."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    round: int = 0


Images = tuple[Tensor, Tensor]
"""Normalized images, (count, 1, 28, 28), and labels, (count,)."""

Data = Callable[[], tuple[Images, Images]]
"""Images to train on, and images to report on after each round; called where a stage still has something to do."""


def pruned(plan: Plan, data: Data, folder: Path) -> nn.Module:
    """Return the pruned network, trained to answer as the float one does.

    Args:
        plan: How.
        data: Images to train and to report on.
        folder: Where checkpoints lie.
    """
    narrow = narrowed(plan, data, folder / "channels.json")
    return train(narrow, plan.distil, data, folder / "distilled.pt")


def narrowed(plan: Plan, data: Data, path: Path) -> nn.Module:
    """Return the float network without the channels that matter least; which ones is kept on file.

    Ranking sums floats, which other thread counts do in another order: without the file a run that goes on could prune
    another channel than the run that was stopped.
    """
    from edgekit_export import Channel, remove_channels

    module = build()
    if path.exists():
        stored = json.loads(path.read_text())
        return remove_channels(module, [Channel({(name, axis): tuple(found) for name, axis, found in part}) for part in stored])
    (images, labels), _ = data()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(plan.distil.seed))
    batches = order[: plan.ranking_batches * plan.distil.batch_size].split(plan.distil.batch_size)
    losses = (nn.functional.cross_entropy(module(images[batch]), labels[batch]) for batch in batches)
    found = edgekit.prune(module, recipe, keep=plan.keep, importance="taylor", losses=losses)
    print(f"pruned to {found.multiply_adds} of {found.multiply_adds_before} multiply-adds; channels {found.kept}", flush=True)
    channels = [[[name, axis, list(indices)] for (name, axis), indices in part.slices.items()] for part in found.removed]
    swap_in(path, lambda aside: aside.write_text(json.dumps(channels)))
    return found.module


def quantized(module: nn.Module, plan: Plan, weights: str, data: Data, path: Path) -> FakeQuantized:
    """Return the module with fake-quantizers, trained with them.

    Args:
        module: The float network to start from.
        plan: How.
        weights: ``per-channel`` or ``per-tensor``.
        data: Images to train and to report on.
        path: Where its checkpoint lies.
    """
    fake = edgekit.qat(module, recipe, weights=weights, flavour=plan.flavour)
    train(fake, plan.quantize, data, path)
    return fake


def train(module: nn.Module, settings: Settings, data: Data, path: Path) -> nn.Module:
    """Train a module in place against the float network, or go on where it was stopped; returns it in eval mode."""
    loss = edgekit.distil(module, build(), temperature=settings.temperature, hard=settings.hard)
    loss.teacher.to(memory_format=torch.channels_last)
    training = start(module.to(memory_format=torch.channels_last), settings)  # type: ignore[call-overload]
    restore(training, settings, path)
    while training.round < settings.rounds:
        fit, held_out = data()
        started = time.monotonic()
        mean = train_round(training, settings, loss, *fit)
        save_checkpoint(training, settings, path)
        print(
            f"{path.stem} round {training.round}/{settings.rounds}  loss {mean:.4f}  held out {accuracy(module, *held_out):.2%}  "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )
    return module.eval()


def start(module: nn.Module, settings: Settings) -> Training:
    """Build the optimizer; what multiplies decays, and no bias, no norm, no position and no quantizer."""
    decayed = [value for name, value in module.named_parameters() if value.dim() > 1 and name != "position"]
    others = [value for name, value in module.named_parameters() if value.dim() <= 1 or name == "position"]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return Training(module, torch.optim.AdamW(groups, lr=settings.learning_rate))


def train_round(training: Training, settings: Settings, loss: Callable[[Tensor, Tensor], Tensor], *fit: Tensor) -> float:
    """Run one round in place; its images and their augmentation depend on the seed and the round alone.

    Returns:
        The mean loss.
    """
    images, labels = fit
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + training.round)
    order = torch.randperm(len(labels), generator=generator)[: settings.images]
    batches = [batch for batch in order.split(settings.batch_size) if len(batch) > 1]  # BatchNorm needs two
    training.module.train()
    total = 0.0
    for index, batch in enumerate(batches):
        progress = (training.round + index / len(batches)) / settings.rounds
        for group in training.optimizer.param_groups:
            group["lr"] = settings.learning_rate * share(progress)
        value = loss(augment(images[batch], generator), labels[batch])
        training.optimizer.zero_grad()
        value.backward()
        training.optimizer.step()
        total += value.item()
    training.round += 1
    return total / len(batches)


def share(progress: float) -> float:
    """Return the share of the highest learning rate: it rises, then falls along a cosine to zero."""
    if progress < WARM_UP:
        return 0.01 + 0.99 * progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


def save_checkpoint(training: Training, settings: Settings, path: Path) -> None:
    """Write the state aside, then swap it in: a run killed here leaves the old checkpoint or the new one."""
    state = {
        "settings": asdict(settings),
        "round": training.round,
        "module": training.module.state_dict(),
        "optimizer": training.optimizer.state_dict(),
    }
    swap_in(path, lambda aside: torch.save(state, aside))


def restore(training: Training, settings: Settings, path: Path) -> None:
    """Load a checkpoint's state in place, where there is one."""
    if not path.exists():
        return
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    if stored["settings"] != asdict(settings):
        raise SystemExit(f"{path}: of a run with {stored['settings']}, not {asdict(settings)}; delete it")
    training.module.load_state_dict(stored["module"])
    training.optimizer.load_state_dict(stored["optimizer"])
    training.round = stored["round"]
    print(f"{path}: going on after round {training.round} of {settings.rounds}", flush=True)


def swap_in(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file aside, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    write(aside)
    aside.replace(path)


def key(*parts: object) -> str:
    """Return a name for what settings and starting weights give."""
    weights = hashlib.sha256((HERE / "sora_image.safetensors").read_bytes()).hexdigest()
    return hashlib.sha256(repr((weights, *parts)).encode()).hexdigest()[:12]


def networks(plan: Plan, data: Path, folder: Path) -> Iterator[tuple[str, nn.Module]]:
    """Yield the trained networks, each as soon as it is there: name and module.

    Args:
        plan: How they are trained.
        data: Folder with Fashion-MNIST's four IDX files.
        folder: Where checkpoints lie; they are called after what they depend on.
    """

    @cache
    def images() -> tuple[Images, Images]:
        fit, held_out = (to_tensors(part) for part in read_training(data))
        return fit, held_out

    for weights in ("per-channel", "per-tensor"):
        path = folder / f"fake-quantized-{weights}-{key(plan.quantize, plan.flavour, weights)}.pt"
        yield weights, quantized(build(), plan, weights, images, path)
    smaller = folder / f"pruned-{key(plan.keep, plan.ranking_batches, plan.distil)}"
    narrow = pruned(plan, images, smaller)
    yield "pruned", narrow
    path = smaller / f"fake-quantized-per-channel-{key(plan.quantize, plan.flavour)}.pt"
    yield "pruned-quantized", quantized(narrow, plan, "per-channel", images, path)


def main() -> None:
    """Train everything and write the integer graphs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="folder with the IDX files")
    parser.add_argument("--out", type=Path, default=Path("build/trained_quantization"), help="folder for checkpoints and graphs")
    parser.add_argument("--flavour", default=Plan.flavour, help="number formats, such as u8s8 where the target has VNNI")
    arguments = parser.parse_args()
    for name, module in networks(replace(Plan(), flavour=arguments.flavour), arguments.data, arguments.out):
        if name != "pruned":
            path = arguments.out / f"sora-image-{name}.onnx"
            module.export(path)  # type: ignore[operator]  # all but the pruned one are FakeQuantized
            print(f"{path}: {path.stat().st_size} bytes", flush=True)


if __name__ == "__main__":
    main()
