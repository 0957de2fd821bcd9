import json

import numpy as np
import pytest

import edgekit
from edgekit_runtime import load

STATIC = "static-u8u8-minmax-weighted"


def images(count=24):
    return np.random.default_rng(1).normal(size=(count, 64)).astype(np.float32)


@pytest.fixture
def calibration(tmp_path):
    np.savez(tmp_path / "one.npz", image=images())
    (tmp_path / "many").mkdir()
    for index, image in enumerate(images()):
        np.savez(tmp_path / "many" / f"{index:03}.npz", image=image[None])
    return tmp_path


@pytest.mark.parametrize("where", ["one.npz", "many"])
def test_a_plain_model_with_calibration_files(project, calibration, where):
    found = edgekit.quantize(project / "quadrants.onnx", scheme=STATIC, out=project / "q.onnx", calibration=calibration / where)
    assert found.calibration_examples == 24
    assert found.kind == "int8"
    assert found.size_bytes < 0.6 * found.float_size_bytes
    assert found.sqnr_db > 20
    assert load(project / "q.onnx")(images(3))["logits"].shape == (3, 4)


def test_a_recipe_brings_its_own_calibration(project, cli):
    ended = cli("quantize", project / "recipe.py", "--scheme", STATIC, "--out", project / "q.onnx", "-q")
    assert ended.status == 0
    assert "calibration examples  32" in ended.out


def test_a_dynamic_scheme_needs_none_and_says_that_it_was_not_used(project, calibration):
    found = edgekit.quantize(
        project / "quadrants.onnx", scheme="dynamic-u8u8", out=project / "q.onnx", calibration=calibration / "one.npz"
    )
    assert found.calibration_examples == 0
    assert any("was not used" in note for note in found.notes)


@pytest.mark.parametrize(
    ("scheme", "calibration_file", "told"),
    [
        (STATIC, None, "needs calibration data; give --calibration"),
        (STATIC, "none.npz", "not an .npz file of plain arrays"),
        (STATIC, "empty", "the folder has no .npz file"),
        (STATIC, "wrong.npz", "calibrate on example 0"),
        ("int8", None, "scheme 'int8': there is none of that name; there are float32; dynamic-FLAVOUR"),
        ("float32", None, "use edgekit export"),
    ],
)
def test_what_goes_wrong_is_told_and_nothing_is_written(project, cli, scheme, calibration_file, told):
    (project / "empty").mkdir()
    np.savez(project / "wrong.npz", picture=images())
    given = ("--calibration", project / calibration_file) if calibration_file else ()
    ended = cli("quantize", project / "quadrants.onnx", "--scheme", scheme, *given, "--out", project / "q.onnx", "-q")
    assert (ended.status, told in ended.line) == (1, True), ended.err
    assert not (project / "q.onnx").exists()


@pytest.mark.parametrize(
    ("scheme", "kind", "share", "least_db"),
    [
        # Shares of a file of 70 kB, of which a tenth is not weights; 64 inputs of two blocks of 32.
        ("weights-int4-b32", "int4", 0.25, 20.0),
        ("weights-int8-b64-asymmetric-level1", "int8", 0.40, 40.0),
        ("static-u8s7-minmax-weighted-tensor", "int8", 0.60, 20.0),
        ("float16-stored", "float16", 0.60, 60.0),
        ("weights-int4-b32+float16", "mixed", 0.25, 20.0),
    ],
)
def test_schemes_of_all_kinds(project, calibration, scheme, kind, share, least_db):
    given = {"calibration": calibration / "one.npz"} if scheme.startswith("static") else {}
    found = edgekit.quantize(project / "quadrants.onnx", scheme=scheme, out=project / "q.onnx", **given)
    assert (found.kind, found.scheme) == (kind, scheme)
    assert found.size_bytes < share * found.float_size_bytes
    assert found.sqnr_db > least_db
    assert load(project / "q.onnx")(images(3))["logits"].shape == (3, 4)


def test_a_spared_node_stays_float(project, cli, calibration):
    given = ("--calibration", calibration / "one.npz", "--out", project / "q.onnx", "--json", "-q")
    ended = cli("quantize", project / "quadrants.onnx", "--scheme", STATIC, "--spare", "second", *given)
    assert ended.status == 0, ended.err
    found = json.loads(ended.out)
    assert (found["scheme"], found["kind"]) == (f"{STATIC}-spared1", "mixed")
    assert any("Gemm second" in note for note in found["notes"])
    ended = cli("quantize", project / "quadrants.onnx", "--scheme", STATIC, "--spare", "third", *given)
    assert (ended.status, "the graph has no node 'third'" in ended.line) == (1, True)


def test_a_recipe_whose_calibration_raises(project, cli):
    recipe = project / "recipe.py"
    recipe.write_text(recipe.read_text().replace("def calibration():", "def calibration(count):"))
    ended = cli("quantize", recipe, "--scheme", STATIC, "--out", project / "q.onnx", "-q")
    assert (ended.status, "calibration() raised TypeError" in ended.line) == (1, True)
