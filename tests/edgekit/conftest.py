"""A small model that solves a small task, recipe files around it, and the command line without a new process."""

import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
CLASSES = 4


@pytest.fixture(autouse=True, scope="session")
def _no_cache_of_the_user(tmp_path_factory):
    """Fixtures of the whole session keep what they measure in a folder of the session's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    """No test finds what another one measured."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


# Which quadrant of an 8×8 image is brighter. The model's file lies beside the recipe.
RECIPE = """
from pathlib import Path
import numpy as np
from edgekit import Recipe

HERE = Path(__file__).parent

def images(count, seed):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 4, count)
    pixels = draw.normal(0, 0.7, (count, 8, 8)).astype(np.float32)
    for image, label in zip(pixels, labels):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    return pixels.reshape(count, 64), labels

def example():
    return {"image": images(1, 0)[0]}

def calibration():
    for image in images(32, 1)[0]:
        yield {"image": image[None]}

def evaluation():
    return [({"image": image[None]}, int(label)) for image, label in zip(*images(200, 2))]

def predict(run, feed):
    return int(run(feed)["logits"].argmax())

def metric(predictions, labels):
    return float(np.mean(np.asarray(predictions) == np.asarray(labels)))

recipe = Recipe(
    name="quadrants",
    model=HERE / "quadrants.onnx",
    example=example,
    dynamic={"image": {0: "batch"}},
    outputs=["logits"],
    calibration=calibration,
    evaluation=evaluation,
    predict=predict,
    metric=metric,
)
"""

TARGET = """
description = "a few candidates, so that tests are quick"
architecture = "any"
static = ["u8u8"]
dynamic = ["u8u8"]
methods = ["minmax"]
placements = ["weighted"]
measured = "real"
"""


def quadrants_model(path: Path, hidden: int = 256, shift: float = 0.0) -> None:
    """Writes Gemm, Relu, Gemm with weights that solve the task; `shift` moves the logits of one class."""
    draw = np.random.default_rng(7)
    masks = np.zeros((CLASSES, SIDE, SIDE), np.float32)
    for label in range(CLASSES):
        row, column = divmod(label, 2)
        masks[label, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1 / 16
    mix = np.abs(draw.normal(1.0, 0.1, (CLASSES, hidden))).astype(np.float32)
    owner = np.arange(hidden) % CLASSES
    first = masks.reshape(CLASSES, -1)[owner].T * mix[owner, np.arange(hidden)]
    second = (owner[:, None] == np.arange(CLASSES)).astype(np.float32) * (CLASSES / hidden)
    weights = {
        "w1": first.astype(np.float32),
        "b1": np.full(hidden, 0.5, np.float32),
        "w2": second,
        "b2": np.asarray([shift, 0, 0, 0], np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["image", "w1", "b1"], ["hidden"], name="first"),
            helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
            helper.make_node("Gemm", ["active", "w2", "b2"], ["logits"], name="second"),
        ],
        "quadrants",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", SIDE * SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def write_project(folder: Path, *changes: tuple[str, str]) -> Path:
    """Model, target and recipe in `folder`; `changes` replace parts of the recipe's text. Gives the recipe's path."""
    quadrants_model(folder / "quadrants.onnx")
    (folder / "small.toml").write_text(TARGET)
    text = RECIPE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / "recipe.py").write_text(text)
    return folder / "recipe.py"


@pytest.fixture
def project(tmp_path):
    """A folder with recipe.py, quadrants.onnx and small.toml."""
    write_project(tmp_path)
    return tmp_path


def _hurry(patch: pytest.MonkeyPatch) -> None:
    """Few timing rounds and processes, no rests between them, and no waiting until figures are calm."""
    import edgekit.search.finals as finals
    import edgekit.search.heats as heats
    import edgekit.search.search as search
    from edgekit_runtime import node_times, timing

    patch.setattr(heats, "SCREENING_ROUNDS", 3)
    patch.setattr(search, "RACE_ROUNDS", 3)
    patch.setattr(search, "FINAL_ROUNDS", 5)
    patch.setattr(finals, "FINAL_ROUNDS", 5)
    patch.setattr(finals, "CONFIRMATION_ROUNDS", 5)
    patch.setattr(finals, "CONFIRMATION_STARTS", 1)
    # Its defaults, which hold for whoever imported the function before.
    for name, value in {"settle_ms": 1.0, "slot_ms": 2.0}.items():
        patch.setitem(timing.interleave.__kwdefaults__, name, value)
    patch.setattr(node_times, "SETTLE_MS", 1.0)
    patch.setattr(node_times, "STABLE", 1.0)


@pytest.fixture
def quick(monkeypatch):
    """A hurried search: what is tested is not how sure the figures are."""
    _hurry(monkeypatch)


@pytest.fixture(scope="module")
def one_torch_thread():
    """OpenMP's waiting threads spin: on a busy machine two are many times slower than one for layers this small."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status, standard output, standard error."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that says what is wrong."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith(("error:", "internal error:"))]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def cli(capfd, monkeypatch):
    """Runs ``edgekit ARGUMENTS`` in this process and gives how it ended."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("COLUMNS", "160")
    path = list(sys.path)

    def run(*arguments: object) -> Ended:
        from edgekit.cli import main

        monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, out, err)

    yield run
    signal.signal(signal.SIGTERM, before)
    sys.path[:] = path


@pytest.fixture(scope="session")
def deployed(tmp_path_factory):
    """A folder with the quadrants project and its bundle, quadrants.edge, with the deployment's own words about it."""
    import edgekit

    folder = tmp_path_factory.mktemp("deployed")
    recipe = write_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        _hurry(patch)
        deployment = edgekit.deploy(recipe, target=str(folder / "small.toml"), out=folder / "quadrants.edge")
    return folder, deployment


def masked_attention_model(path: Path) -> None:
    """Writes one attention with a mask of −3.4e38, as exporters write it: (batch, time, 8) and (batch, time) to 4 logits.

    The first token asks for the one token whose feature 0 is large, and answers with that token's features 1 to 4.
    """
    ask, key = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    ask[7, 0], key[0, 0] = 1.0, 1.0
    answer = np.zeros((8, 4), np.float32)
    answer[1:5] = np.eye(4)
    constants = {
        "ask": ask,
        "key": key,
        "answer": answer,
        "one": np.float32(1),
        "lowest": np.float32(-3.4e38),
        "first": np.int64(0),
    }
    nodes = [
        helper.make_node("MatMul", ["tokens", "ask"], ["queries"]),
        helper.make_node("MatMul", ["tokens", "key"], ["keys"]),
        helper.make_node("MatMul", ["tokens", "answer"], ["values"]),
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["queries", "turned"], ["scores"]),
        helper.make_node("Sub", ["one", "mask"], ["absent"]),
        helper.make_node("Mul", ["absent", "lowest"], ["bias"]),
        helper.make_node("Unsqueeze", ["bias", "axis"], ["wide"]),
        helper.make_node("Add", ["scores", "wide"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "values"], ["context"]),
        helper.make_node("Gather", ["context", "first"], ["logits"], axis=1),
    ]
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
    constants["axis"] = np.asarray([1], np.int64)
    graph = helper.make_graph(
        nodes,
        "attention",
        [
            helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["batch", "time", 8]),
            helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["batch", "time"]),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def attention(tmp_path):
    """A folder with attention.onnx, a recipe for it and a target that tries everything and weights only."""
    masked_attention_model(tmp_path / "attention.onnx")
    placements = 'placements = ["everything", "weighted"]'
    (tmp_path / "small.toml").write_text(TARGET.replace('placements = ["weighted"]', placements))
    (tmp_path / "recipe.py").write_text(ATTENTION_RECIPE)
    return tmp_path


ATTENTION_RECIPE = '''
from pathlib import Path
import numpy as np
from edgekit import Recipe

def sentence(seed):
    """One token holds the answer, others shout wrong ones; half of the sentence is padding."""
    draw = np.random.default_rng(seed)
    tokens = np.zeros((1, 12, 8), np.float32)
    tokens[0, 0, 7] = 4.0
    tokens[0, 1:, 0] = -1.0
    tokens[0, np.arange(1, 12), 1 + draw.integers(0, 4, 11)] = 1.0
    place, label = int(draw.integers(1, 6)), int(draw.integers(0, 4))
    tokens[0, place] = 0.0
    tokens[0, place, 0], tokens[0, place, 1 + label] = 2.0, 1.0
    mask = np.ones((1, 12), np.float32)
    mask[0, 6:] = 0.0
    return {"tokens": tokens, "mask": mask}, label

def calibration():
    for seed in range(16):
        yield sentence(seed)[0]

def evaluation():
    return [sentence(1000 + seed) for seed in range(150)]

recipe = Recipe(
    name="attention",
    model=Path(__file__).parent / "attention.onnx",
    example=lambda: sentence(0)[0],
    dynamic={"tokens": {0: "batch"}, "mask": {0: "batch"}},
    outputs=["logits"],
    calibration=calibration,
    evaluation=evaluation,
    predict=lambda run, feed: int(run(feed)["logits"].argmax()),
    metric=lambda predictions, labels: float(np.mean(np.asarray(predictions) == np.asarray(labels))),
)
'''
