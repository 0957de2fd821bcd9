"""The built-in example: what its folder carries, and that the stored weights are as good as it says."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_torch_thread")
EXAMPLE = Path(__file__).parents[2] / "examples" / "fashion_mnist"


def load(name: str) -> ModuleType:
    """Import a file of the example as a module of its own."""
    spec = importlib.util.spec_from_file_location(f"fashion_example_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    return load("recipe")


def stored(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(EXAMPLE / name, allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"]


class TestData:
    """The images that the repository carries."""

    def test_sizes_and_types(self) -> None:
        for name, count in (("calibration.npz", 512), ("test.npz", 10_000)):
            images, labels = stored(name)
            assert (images.shape, images.dtype) == ((count, 28, 28), np.uint8)
            assert (labels.shape, labels.dtype) == ((count,), np.uint8)

    def test_calibration_is_disjoint_from_the_test_set(self) -> None:
        calibration, test = ({image.tobytes() for image in stored(name)[0]} for name in ("calibration.npz", "test.npz"))
        assert not calibration & test

    def test_the_test_set_is_the_published_one(self) -> None:
        assert np.bincount(stored("test.npz")[1]).tolist() == [1000] * 10

    def test_calibration_has_every_class(self) -> None:
        assert np.bincount(stored("calibration.npz")[1], minlength=10).min() >= 30

    def test_the_licence_names_its_owner(self) -> None:
        licence = (EXAMPLE / "DATA_LICENSE").read_text(encoding="utf-8")
        assert "MIT" in licence
        assert "Zalando SE" in licence

    def test_the_folder_is_under_6_mb(self) -> None:
        files = [path for path in EXAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert sum(path.stat().st_size for path in files) < 5_900_000


class TestRecipe:
    """The recipe's functions, as the contract wants them."""

    def test_the_fields(self, recipe: ModuleType) -> None:
        assert recipe.recipe.name == "fashion"
        assert recipe.recipe.dynamic == {"image": {0: "batch"}}
        assert list(recipe.recipe.outputs) == ["logits"]

    def test_the_example_is_a_normalized_image_and_always_the_same(self, recipe: ModuleType) -> None:
        ((name, image),) = recipe.recipe.example().items()
        assert (name, image.shape, image.dtype) == ("image", (1, 1, 28, 28), np.float32)
        np.testing.assert_array_equal(image, recipe.recipe.example()["image"])

    def test_calibration_is_streamed_one_image_at_a_time(self, recipe: ModuleType) -> None:
        feeds = recipe.recipe.calibration()
        assert iter(feeds) is feeds
        shapes = [feed["image"].shape for feed in feeds]
        assert shapes == [(1, 1, 28, 28)] * 512

    def test_calibration_is_normalized(self, recipe: ModuleType) -> None:
        pixels = np.concatenate([feed["image"] for feed in recipe.recipe.calibration()])
        assert abs(pixels.mean()) < 0.05
        assert abs(pixels.std() - 1) < 0.05

    def test_evaluation_is_a_lazy_sequence(self, recipe: ModuleType) -> None:
        examples = recipe.recipe.evaluation()
        images, labels = stored("test.npz")
        assert len(examples) == 10_000
        for index in (0, 4_321, -1):
            feed, label = examples[index]
            assert feed["image"].dtype == np.float32
            assert type(label) is int
            assert label == labels[index]
            np.testing.assert_array_equal(feed["image"], recipe.normalize(images[index][None]))
        assert [label for _, label in examples[10:13]] == labels[10:13].tolist()
        with pytest.raises(IndexError):
            examples[10_000]

    def test_predict_and_metric(self, recipe: ModuleType) -> None:
        logits = np.array([[0.0, 3.0, 1.0]], dtype=np.float32)
        prediction = recipe.recipe.predict(lambda _: {"logits": logits}, {})
        assert (type(prediction), prediction) == (int, 1)
        score = recipe.recipe.metric([1, 2, 3, 4], [1, 2, 0, 4])
        assert (type(score), score) == (float, 0.75)

    def test_reading_the_recipe_does_not_import_torch(self) -> None:
        program = f"import runpy, sys; runpy.run_path({str(EXAMPLE / 'recipe.py')!r}); sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", program], check=True)


def test_the_stored_weights_classify(recipe: ModuleType) -> None:
    model = recipe.recipe.model()
    assert not model.training
    images, labels = stored("test.npz")
    with torch.no_grad():
        predictions = model(torch.from_numpy(recipe.normalize(images[:1000]))).argmax(dim=1).numpy()
    assert recipe.accuracy(predictions, labels[:1000]) >= 0.915


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import train.py, which imports its neighbours as a script does, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield load("train")
    for name in ("recipe", "fashion_data"):
        sys.modules.pop(name, None)


class TestTraining:
    """The training script on a handful of images."""

    @pytest.fixture
    def images(self) -> torch.Tensor:
        return torch.randn(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def test_a_run_that_was_stopped_ends_like_one_that_was_not(
        self, train: ModuleType, images: torch.Tensor, tmp_path: Path
    ) -> None:
        settings = train.Settings(
            epochs=2, batch_size=8, learning_rate=1e-3, weight_decay=0.05, label_smoothing=0.1, average_decay=0.9, seed=3
        )
        labels, checkpoint = torch.arange(24) % 10, tmp_path / "run" / "checkpoint.pt"
        whole, stopped, resumed = (train.start(settings) for _ in range(3))
        for _ in range(2):
            train.train_epoch(whole, settings, images, labels)
        train.train_epoch(stopped, settings, images, labels)
        train.save_checkpoint(stopped, settings, checkpoint)
        train.restore(resumed, settings, checkpoint)
        train.train_epoch(resumed, settings, images, labels)
        assert resumed.epoch == 2
        for name, value in whole.average.state_dict().items():
            torch.testing.assert_close(resumed.average.state_dict()[name], value, msg=lambda text, n=name: f"{n}: {text}")
        assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]

        with pytest.raises(SystemExit, match="this checkpoint is of a run with"):
            train.restore(stopped, dataclasses.replace(settings, seed=4), checkpoint)

    def test_augmentation_keeps_what_an_image_is(self, train: ModuleType, images: torch.Tensor) -> None:
        images = images.clamp(min=-0.8)
        first, again = (train.augment(images, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, again)
        assert first.shape == images.shape
        assert not torch.equal(first, images)
        for before, after in zip(images, first, strict=True):
            assert torch.isin(after, torch.cat([before.flatten(), torch.tensor([-0.8])])).all()


class TestScripts:
    """The scripts answer wrong folders and files in one go, without a traceback."""

    @pytest.mark.parametrize("script", ["train.py", "prepare_data.py"])
    def test_help_says_where_the_data_comes_from(self, script: str) -> None:
        done = subprocess.run([sys.executable, str(EXAMPLE / script), "--help"], capture_output=True, text=True, check=True)
        assert "dataset-fashion-mnist" in "".join(done.stdout.split())  # argparse may wrap at a hyphen

    def test_missing_data_names_the_package(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, str(EXAMPLE / "prepare_data.py"), "--data", str(tmp_path), "--out", str(tmp_path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "apt-get install dataset-fashion-mnist" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"not gzip", "cannot be read as gzip"), (gzip.compress(b"\0\0\x08\x03" + bytes(30), mtime=0), "not an IDX file")],
    )
    def test_a_damaged_file_is_named(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "train-images-idx3-ubyte.gz"
        path.write_bytes(content)
        with pytest.raises(SystemExit, match=f"{path.name}: {message}"):
            load("fashion_data").read_training(tmp_path)
