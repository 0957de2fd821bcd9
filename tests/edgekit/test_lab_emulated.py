"""Two emulated boards at work: what they compute, what graph they run, and what they count."""

import subprocess
from contextlib import ExitStack

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgekit
from edgekit.labs.emulated.boards import board_names, load_board
from edgekit.labs.emulated.counts import can_count, count, start_counter
from edgekit.labs.emulated.emulator import EmulatedBoard
from edgekit.labs.emulated.folder import Lab, lab_folder
from edgekit.labs.emulated.launch import launch
from edgekit.labs.emulated.pins import pins
from edgekit.labs.emulated.setup import unfinished
from edgekit_runtime import Model, SessionConfig, load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.machine import machine
from edgekit_runtime.session import open_session

# The user's own lab: tests get another cache folder, but not another lab, which takes seconds and a network to set up.
LAB = Lab(lab_folder())
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(unfinished(LAB)), reason="the lab of emulated boards is not set up; run: edgekit lab setup"),
]
counting = pytest.mark.skipif(
    not can_count(load_board("raspberry-pi-5"), LAB), reason="the lab is numeric only: there was no C compiler when it was set up"
)
BOARDS = ["raspberry-pi-4", "raspberry-pi-5"]
STATIC = "static-s8s8-minmax-everything"
# What Linux calls the bits of AT_HWCAP and AT_HWCAP2 on arm64, from the lowest.
HWCAP = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 sm4 asimddp "
    "sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg"
)
HWCAP2 = (
    "dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng bti "
    "mte ecv afp rpres mte3 sme"
)


def convnet(path):
    """Writes Conv, Relu, Conv, Relu, pool, Gemm: (1, 3, 24, 24) to 10 logits."""
    draw = np.random.default_rng(3)
    weights = {
        "w1": draw.normal(0, 0.2, (24, 3, 3, 3)),
        "b1": draw.normal(0, 0.1, 24),
        "w2": draw.normal(0, 0.1, (32, 24, 3, 3)),
        "b2": draw.normal(0, 0.1, 32),
        "w3": draw.normal(0, 0.3, (32, 10)),
        "b3": np.zeros(10),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], name="conv2"),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "convnet",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 24, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def images(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 3, 24, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of the network in float and in static S8S8."""
    folder = tmp_path_factory.mktemp("models")
    convnet(folder / "float.onnx")
    np.savez(folder / "calibration.npz", image=images(16, 1))
    edgekit.quantize(folder / "float.onnx", scheme=STATIC, out=folder / "s8s8.onnx", calibration=folder / "calibration.npz")
    return {"float": folder / "float.onnx", "s8s8": folder / "s8s8.onnx"}


@pytest.fixture(scope="module")
def workers():
    """A worker on each board, started once."""
    with ExitStack() as started:
        yield {name: started.enter_context(EmulatedBoard(load_board(name), LAB).start()) for name in BOARDS}


@pytest.fixture(scope="module")
def counted(models):
    """Counts of both models on both boards, caches modelled."""
    found = {}
    for name in BOARDS:
        with start_counter(load_board(name), caches=True, lab=LAB) as counter:
            found[name] = {kind: counter.count(path, {"image": images(1, 5)}) for kind, path in models.items()}
    return found


@pytest.mark.parametrize("name", BOARDS)
def test_the_worker_finds_itself_on_the_board(workers, name):
    board, welcome = load_board(name), workers[name].hello()
    assert welcome.versions["onnxruntime"] == pins().wheels["onnxruntime"].version
    assert welcome.versions["python"].startswith(pins().python)
    there = welcome.machine
    assert (there.architecture, there.isa) == (board.architecture, board.isa)
    assert (there.cores, there.cores_total, there.memory_bytes) == (1, board.cores, board.memory_bytes)
    assert "Raspberry Pi" in there.cpu


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).architecture == "aarch64"])
def test_cpuinfo_says_what_the_emulated_processor_has(name):
    script = (
        "import ctypes; libc = ctypes.CDLL(None); libc.getauxval.restype = ctypes.c_ulong; print(*map(libc.getauxval, (16, 26)))"
    )
    board = load_board(name)
    start = launch(LAB, board, ["-c", script])
    told = subprocess.run(start.command, env=start.environment, capture_output=True, text=True, check=True, timeout=60).stdout
    has = {
        word
        for bits, words in zip(map(int, told.split()), (HWCAP, HWCAP2), strict=True)
        for bit, word in enumerate(words.split())
        if bits >> bit & 1
    }
    features = next(line for line in board.cpuinfo.splitlines() if line.startswith("Features"))
    assert set(features.partition(":")[2].split()) == has


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize(("kind", "least_db"), [("float", 100.0), ("s8s8", 35.0)])
def test_a_board_computes_what_this_machine_computes(workers, models, name, kind, least_db):
    opened = workers[name].open(str(models[kind]), threads=1)
    # Where this machine saturates is another matter: its precise kernels do not.
    exact = SessionConfig(entries={"session.x64quantprecision": "1"})
    here = Model(open_session(models[kind], None, exact), models[kind])
    feeds = [{"image": image[None]} for image in images(4, 9)]
    there, expected = [opened(feed) for feed in feeds], [here(feed) for feed in feeds]
    assert difference(there, expected).sqnr_db > least_db
    if kind == "s8s8":
        # Integers were computed: neither answer is float's.
        assert difference(there, [load(models["float"])(feed) for feed in feeds]).max_abs_diff > 1e-4
    opened.close()


def test_both_boards_compute_the_same_integers(workers, models):
    feed = {"image": images(1, 11)}
    there = [workers[name].open(str(models["s8s8"]), threads=1)(feed)["logits"] for name in BOARDS]
    assert np.array_equal(*there)


@pytest.mark.parametrize("name", BOARDS)
def test_s8s8_is_fused_on_the_board(workers, models, name):
    graph = onnx.load_from_string(workers[name].optimized(str(models["s8s8"]))).graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("QLinearConv") == 2
    assert operators.count("QGemm") == 1
    assert not {"Conv", "Gemm", "MatMul"} & set(operators)


@counting
def test_integer_dot_products_are_there_on_one_board_and_not_on_the_other(counted):
    assert counted["raspberry-pi-5"]["s8s8"].mix.dot > 1000
    assert counted["raspberry-pi-4"]["s8s8"].mix.dot == 0
    assert counted["raspberry-pi-4"]["s8s8"].mix.widening_multiply > 1000
    for name in BOARDS:
        assert counted[name]["float"].mix.dot == counted[name]["float"].mix.mmla == 0
        # 24·24·(3·9·24 + 24·9·32) products, four at a time.
        products = 24 * 24 * (3 * 9 * 24 + 24 * 9 * 32) / 4
        assert 0.9 * products < counted[name]["float"].mix.float_fma < 1.5 * products
    assert counted["raspberry-pi-5"]["s8s8"].instructions < counted["raspberry-pi-4"]["s8s8"].instructions


@counting
def test_classes_add_up_and_modelled_caches_are_plausible(counted):
    for found in (one for kinds in counted.values() for one in kinds.values()):
        mix = found.mix
        parts = (
            mix.dot,
            mix.mmla,
            mix.widening_multiply,
            mix.float_fma,
            mix.other_simd,
            mix.loads,
            mix.stores,
            mix.branches,
            mix.other,
        )
        assert sum(parts) == found.instructions
        assert 0 < found.caches.l2_misses <= found.caches.l1_misses < mix.loads + mix.stores
        assert found.caches.bytes > mix.loads
    for name in BOARDS:
        assert counted[name]["s8s8"].caches.bytes < counted[name]["float"].caches.bytes


@counting
@pytest.mark.parametrize("name", BOARDS)
def test_counts_repeat_in_a_new_process_with_and_without_caches(counted, models, name):
    before = counted[name]["s8s8"]
    again = count(load_board(name), models["s8s8"], {"image": images(1, 5)}, lab=LAB)
    assert again.caches is None
    assert again.instructions == pytest.approx(before.instructions, rel=0.002)
    assert again.mix.dot == before.mix.dot
    assert again.spread < 0.01


@pytest.mark.skipif(machine().architecture != "x86_64", reason="it runs this machine's own Python, which is not for x86-64")
def test_an_emulated_haswell_has_avx2_and_counts_without_classes(models):
    board = load_board("cpu-x64-avx2")
    with EmulatedBoard(board, LAB).start() as worker:
        assert worker.hello().machine.isa == ("avx2",)
        opened = worker.open(str(models["float"]), threads=1)
        assert np.allclose(
            opened({"image": images(1, 5)})["logits"], load(models["float"])({"image": images(1, 5)})["logits"], atol=1e-4
        )
    if can_count(board, LAB):
        found = count(board, models["float"], {"image": images(1, 5)}, runs=2, lab=LAB)
        assert found.instructions > 100_000
        assert found.mix is None
