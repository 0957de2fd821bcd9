"""Training for int8 through the package: three lines in a user's own loop, on a recipe, and the example's script."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import edgekit
from edgekit import Recipe
from edgekit.progress import Quiet
from edgekit.variants import build_variants
from edgekit_runtime import Provider, load
from edgekit_runtime.errors import CalibrationError, TargetError

pytestmark = pytest.mark.usefixtures("one_torch_thread")
EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3),
    ).eval()  # fmt: skip


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of three classes: how bright their stripes are says which."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    stripes = torch.zeros(8, 8)
    stripes[::2] = 1.0
    return torch.randn(count, 1, 8, 8, generator=generator) * 0.3 + stripes * labels[:, None, None, None].float(), labels


def feeds() -> Iterator[dict[str, np.ndarray]]:
    for picture in pictures(48, seed=5)[0]:
        yield {"input": picture[None].numpy()}


recipe = Recipe(
    name="stripes",
    model=build,
    example=lambda: {"input": pictures(1, seed=6)[0].numpy()},
    dynamic={"input": {0: "batch"}},
    outputs=["logits"],
    calibration=feeds,
)


def fit(module: nn.Module, loss, steps: int = 60, rate: float = 5e-3) -> None:
    """A user's own loop."""
    optimizer = torch.optim.AdamW(module.parameters(), rate)
    x, y = pictures(256, seed=1)
    module.train()
    for step in range(steps):
        batch = slice(64 * (step % 4), 64 * (step % 4) + 64)
        optimizer.zero_grad()
        loss(x[batch], y[batch]).backward()
        optimizer.step()
    module.eval()


def accuracy(run, images: torch.Tensor, labels: torch.Tensor) -> float:
    return float((np.asarray(run(images)).argmax(1) == labels.numpy()).mean())


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    module = build()
    fit(module, lambda x, y: nn.functional.cross_entropy(module(x), y), steps=150)
    return module


def test_pruned_distilled_and_fake_quantized_in_a_few_lines(teacher, tmp_path):
    x, y = pictures(200, seed=2)
    with torch.no_grad():
        assert accuracy(teacher, x, y) > 0.95
    found = edgekit.prune(teacher, recipe, keep=0.6, multiple=4)
    assert found.multiply_adds <= 0.6 * found.multiply_adds_before
    smaller = found.module
    fit(smaller, edgekit.distil(smaller, teacher))
    trained = edgekit.qat(smaller, recipe, flavour="u8s7")
    fit(trained, edgekit.distil(trained, teacher), steps=20, rate=1e-3)
    trained.export(tmp_path / "model.onnx")
    model = load(tmp_path / "model.onnx")
    assert accuracy(lambda images: model({"input": images.numpy()})["logits"], x, y) > 0.9
    assert [spec.shape for spec in model.inputs] == [("batch", 1, 8, 8)]


def test_a_recipe_ships_what_was_trained(teacher, tmp_path):
    trained = edgekit.qat(teacher, recipe, flavour="u8s7")
    done = edgekit.export(dataclasses.replace(recipe, model=trained.frozen), out=tmp_path / "trained.onnx")
    assert done.operators["QuantizeLinear"] > 0
    assert done.operators["Conv"] == 2
    assert done.parity is not None
    x = pictures(16, seed=3)[0]
    (found,) = load(tmp_path / "trained.onnx")({"input": x.numpy()}).values()
    with torch.no_grad():
        assert (found.argmax(1) == trained(x).numpy().argmax(1)).all()


def test_deploy_takes_it_as_a_variant(teacher, tmp_path):
    trained = edgekit.qat(teacher, recipe, flavour="u8s7")
    (built,) = build_variants(dataclasses.replace(recipe, variants={"qat": trained.frozen}), Provider(), tmp_path, Quiet())
    assert (built.failure, built.kind, built.name) == (None, "int8", "qat")
    x = pictures(16, seed=3)[0]
    (found,) = load(built.path)({"input": x.numpy()}).values()
    with torch.no_grad():
        assert np.abs(found - trained(x).numpy()).max() <= trained.frozen().quantized_output_steps[0]


@pytest.mark.parametrize(("target", "dtypes"), [("cpu-x64", (torch.uint8, torch.int8)), ("cpu-arm64", (torch.int8, torch.int8))])
def test_number_formats_suit_the_target(teacher, target, dtypes):
    trained = edgekit.qat(teacher, recipe, target=target)
    assert {part.grid.dtype for _, part in trained.quantizers()} == {dtypes[0]}
    assert {layer.quantizer.grid.dtype for _, layer in trained.layers()} == {dtypes[1]}


def test_no_target_gets_weights_that_saturate_there(teacher):
    trained = edgekit.qat(teacher, recipe, target="cpu-x64-avx2")
    for _, layer in trained.layers():
        depthwise = layer.rest[3:] == (16,)
        # Depthwise kernels sum single products in 32 bits.
        assert depthwise or layer.quantizer.grid.dtype == torch.uint8 or layer.quantizer.levels <= 64


def test_targets_without_static_int8_are_refused(teacher, tmp_path):
    path = tmp_path / "floating.toml"
    path.write_text('description = "none"\narchitecture = "any"\n')
    with pytest.raises(TargetError, match="computes nothing statically in 8 bits"):
        edgekit.qat(teacher, recipe, target=str(path))


def test_recipes_without_calibration_are_refused(teacher):
    with pytest.raises(CalibrationError, match="it has no calibration"):
        edgekit.qat(teacher, dataclasses.replace(recipe, calibration=None))


class TestScript:
    """The example's script, on a handful of drawn images."""

    @pytest.fixture
    def compress(self, monkeypatch):
        monkeypatch.syspath_prepend(str(EXAMPLE))
        before = set(sys.modules)
        import compress

        yield compress
        for name in set(sys.modules) - before:
            if name in ("compress", "train", "recipe", "fashion_data"):
                del sys.modules[name]

    @staticmethod
    def images():
        draw = torch.Generator().manual_seed(0)
        one = torch.randn(96, 1, 28, 28, generator=draw), torch.randint(0, 10, (96,), generator=draw)
        return one, (one[0][:20].repeat(25, 1, 1, 1), one[1][:20].repeat(25))

    def test_a_run_that_was_stopped_ends_as_one_that_was_not(self, compress, tmp_path, monkeypatch):
        monkeypatch.setattr(compress, "build", lambda: nn.Sequential(build()[:7], nn.Linear(16, 10)).eval())
        one = dataclasses.replace(recipe, example=lambda: {"input": self.images()[0][0][:1].numpy()})
        one = dataclasses.replace(one, calibration=lambda: [{"input": self.images()[0][0].numpy()}])
        settings = compress.Settings(rounds=3, learning_rate=1e-3, images=64, batch_size=32)

        def fresh():
            return edgekit.qat(compress.build(), one, flavour="u8s7")

        whole = compress.train(fresh(), settings, self.images, tmp_path / "whole.pt")
        done = []

        def stopped():
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(1)
            return self.images()

        with pytest.raises(KeyboardInterrupt):
            compress.train(fresh(), settings, stopped, tmp_path / "stopped.pt")
        again = compress.train(fresh(), settings, self.images, tmp_path / "stopped.pt").state_dict()
        for name, value in whole.state_dict().items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, again[name]), name

    def test_a_checkpoint_of_other_settings_is_refused(self, compress, tmp_path):
        module = nn.Linear(2, 2)
        one, other = (compress.Settings(rounds=1, learning_rate=rate) for rate in (0.1, 0.2))
        compress.save_checkpoint(compress.start(module, one), one, tmp_path / "state.pt")
        with pytest.raises(SystemExit, match=r"not .*0\.2.*delete it"):
            compress.restore(compress.start(module, other), other, tmp_path / "state.pt")

    def test_missing_data_is_answered_with_what_to_install(self, compress, tmp_path, monkeypatch):
        monkeypatch.setattr(compress, "build", lambda: nn.Linear(2, 2))
        monkeypatch.setattr(compress.edgekit, "qat", lambda module, *_, **__: module, raising=False)
        with pytest.raises(SystemExit, match="apt-get install dataset-fashion-mnist"):
            next(compress.networks(compress.Plan(), tmp_path, tmp_path / "out"))
