"""Train SoraImage on Fashion-MNIST and write the weights that the recipe deploys.

    python examples/fashion_mnist/train.py --data /usr/share/datasets/fashion-mnist

A run that was stopped goes on from its checkpoint, after the last finished epoch, to the same result. The test images
are read once, at the end; what there is to choose is chosen on 5 000 training images that are held out.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from fashion_data import LabelledImages, read_test, read_training
from recipe import normalize
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from edgekit.models import SoraImage

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Settings:
    """What a run depends on; a checkpoint of other settings is refused."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    average_decay: float
    seed: int


@dataclass
class Training:
    """The state that a checkpoint holds."""

    model: nn.Module
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    epoch: int = 0


def main() -> None:
    """Train, or go on training; then write the weights and print the test accuracy."""
    arguments = parse_arguments()
    settings = Settings(**{name: getattr(arguments, name) for name in Settings.__dataclass_fields__})
    fit, held_out = (to_tensors(part) for part in read_training(arguments.data))
    test = read_test(arguments.data)

    training = start(settings)
    restore(training, settings, arguments.checkpoint)
    parameters = sum(parameter.numel() for parameter in training.model.parameters())
    print(f"SoraImage, {parameters} parameters; {len(fit[1])} images to fit, {len(held_out[1])} held out", flush=True)
    while training.epoch < settings.epochs:
        started = time.monotonic()
        loss = train_epoch(training, settings, *fit)
        save_checkpoint(training, settings, arguments.checkpoint)
        print(
            f"epoch {training.epoch}/{settings.epochs}  loss {loss:.4f}  held out: "
            f"weights {accuracy(training.model, *held_out):.2%}, "
            f"their average {accuracy(training.average.module, *held_out):.2%}  "
            f"{time.monotonic() - started:.0f} s",
            flush=True,
        )

    state = {name: value.detach().contiguous() for name, value in training.average.module.state_dict().items()}
    replace_file(arguments.out, save(state))
    print(f"{arguments.out}: {arguments.out.stat().st_size} bytes")
    print(f"test accuracy {accuracy(training.average.module, *to_tensors(test)):.2%} of {len(test.labels)} images")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder with the four IDX files of Debian's package dataset-fashion-mnist",
    )
    parser.add_argument("--out", type=Path, default=HERE / "sora_image.safetensors", help="where the weights go")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("build/fashion_mnist/checkpoint.pt"),
        help="where the run keeps its state after each epoch; delete it to start over",
    )
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images to fit")
    parser.add_argument("--batch-size", type=int, default=128, help="images in a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="highest learning rate, after the warm-up")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="AdamW's decay of matrices and filters")
    parser.add_argument("--label-smoothing", type=float, default=0.05, help="share of a label spread over all classes")
    parser.add_argument("--average-decay", type=float, default=0.998, help="decay of the running average of weights")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights, the order and the augmentation")
    return parser.parse_args()


def to_tensors(part: LabelledImages) -> tuple[Tensor, Tensor]:
    """Return normalized images (count, 1, 28, 28) float32, and labels (count,) int64."""
    return torch.from_numpy(normalize(part.images)), torch.from_numpy(part.labels.astype("int64"))


def start(settings: Settings) -> Training:
    """Build a model and an optimizer that decays what multiplies, but no bias, no norm and no position."""
    torch.manual_seed(settings.seed)
    model = SoraImage().to(memory_format=torch.channels_last)
    matrices = [parameter for name, parameter in model.named_parameters() if decays(name, parameter)]
    others = [parameter for name, parameter in model.named_parameters() if not decays(name, parameter)]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        fused=True,
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.average_decay), use_buffers=True)
    return Training(model, average, optimizer)


def decays(name: str, parameter: Tensor) -> bool:
    """Say whether weight decay applies to a parameter."""
    return parameter.dim() > 1 and name != "position"


def train_epoch(training: Training, settings: Settings, images: Tensor, labels: Tensor) -> float:
    """Run one epoch in place; its order and augmentation depend on the seed and the epoch alone.

    Returns:
        The mean loss.
    """
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + training.epoch)
    order = torch.randperm(len(labels), generator=generator)
    batches = [batch for batch in order.split(settings.batch_size) if len(batch) > 1]  # BatchNorm needs two
    training.model.train()
    total = 0.0
    for index, batch in enumerate(batches):
        progress = (training.epoch + index / len(batches)) / settings.epochs
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(progress, settings)
        logits = training.model(augment(images[batch], generator))
        loss = nn.functional.cross_entropy(logits, labels[batch], label_smoothing=settings.label_smoothing)
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        training.average.update_parameters(training.model)
        total += loss.item()
    training.epoch += 1
    return total / len(batches)


def learning_rate(progress: float, settings: Settings) -> float:
    """Rise over the first twentieth of the run, then fall along a cosine to zero."""
    warm_up = 0.05
    if progress < warm_up:
        return settings.learning_rate * (0.01 + 0.99 * progress / warm_up)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip half of the images, shift each by up to two pixels, blank a small rectangle in a quarter of them.

    Args:
        images: (batch, 1, 28, 28), normalized.
        generator: Source of the randomness.

    Returns:
        (batch, 1, 28, 28), channels last in memory.
    """

    def draw(low: int, high: int) -> Tensor:
        """Draw one integer in low..high for each image, (batch, 1)."""
        return torch.randint(low, high + 1, (len(images), 1), generator=generator)

    background = images.min()  # black pixels are in every batch, and are the smallest value
    shift, side = 2, torch.arange(28)
    padded = nn.functional.pad(images, (shift, shift, shift, shift), value=background.item())
    rows = side + draw(0, 2 * shift)
    columns = torch.where(draw(0, 1) == 1, side.flip(0), side) + draw(0, 2 * shift)
    moved = padded[torch.arange(len(images))[:, None, None], 0, rows[:, :, None], columns[:, None, :]]

    top, left, height, width = draw(0, 27), draw(0, 27), draw(3, 9), draw(3, 9)
    in_rows = (side >= top) & (side < top + height) & (draw(0, 3) == 0)
    in_columns = (side >= left) & (side < left + width)
    erased = torch.where(in_rows[:, :, None] & in_columns[:, None, :], background, moved)
    return erased[:, None].contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of images that the model, in eval mode, gives their label."""
    model.eval()
    right = [
        (model(some).argmax(dim=1) == expected).sum().item()
        for some, expected in zip(images.split(500), labels.split(500), strict=True)
    ]
    return sum(right) / len(labels)


def save_checkpoint(training: Training, settings: Settings, path: Path) -> None:
    """Write the state aside, then swap it in: a run killed here leaves the old checkpoint or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    torch.save(
        {
            "settings": asdict(settings),
            "epoch": training.epoch,
            "model": training.model.state_dict(),
            "average": training.average.state_dict(),
            "optimizer": training.optimizer.state_dict(),
        },
        aside,
    )
    aside.replace(path)


def restore(training: Training, settings: Settings, path: Path) -> None:
    """Load a checkpoint's state in place, where there is one."""
    if not path.exists():
        return
    stored: dict[str, Any] = torch.load(path, weights_only=True)
    if stored["settings"] != asdict(settings):
        raise SystemExit(
            f"{path}: this checkpoint is of a run with {stored['settings']}, not {asdict(settings)}; "
            "delete it or name another --checkpoint"
        )
    training.model.load_state_dict(stored["model"])
    training.average.load_state_dict(stored["average"])
    training.optimizer.load_state_dict(stored["optimizer"])
    training.epoch = stored["epoch"]
    print(f"{path}: going on after epoch {training.epoch}", flush=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file aside, then swap it in."""
    aside = path.with_name(path.name + ".part")
    aside.write_bytes(content)
    aside.replace(path)


if __name__ == "__main__":
    main()
