import numpy as np
import onnx
import pytest

import edgekit
from edgekit_runtime import load


def test_an_onnx_file_is_prepared_and_computes_the_same(project, cli):
    out = project / "prepared.onnx"
    exported = edgekit.export(project / "quadrants.onnx", out=out)
    assert exported.model == str(out)
    assert exported.parity is None
    assert exported.size_bytes == out.stat().st_size
    assert exported.opset == {entry.domain: entry.version for entry in onnx.load(out).opset_import}[""]
    feed = {"image": np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)}
    np.testing.assert_allclose(load(out)(feed)["logits"], load(project / "quadrants.onnx")(feed)["logits"], rtol=1e-5, atol=1e-6)


def test_the_source_is_never_overwritten(project, cli):
    source = project / "quadrants.onnx"
    before = source.read_bytes()
    for arguments in (("export", source), ("export", project / "recipe.py"), ("quantize", source, "--scheme", "dynamic-u8u8")):
        ended = cli(*arguments, "--out", source, "-q")
        assert ended.status == 1
        assert "that is the model it is made from; give another --out" in ended.line
    assert source.read_bytes() == before
    (project / "link.onnx").symlink_to(source)
    assert cli("export", source, "--out", project / "link.onnx", "-q").status == 1
    assert source.read_bytes() == before


@pytest.mark.parametrize(("out", "told"), [("model.bin", "ends in .onnx"), (".", ".onnx")])
def test_where_it_cannot_be_written(project, cli, out, told):
    ended = cli("export", project / "quadrants.onnx", "--out", project / out, "-q")
    assert (ended.status, told in ended.line) == (1, True)
    assert not list(project.glob(".*tmp*"))


@pytest.mark.slow
def test_a_module_is_compared_with_its_graph(tmp_path):
    import torch

    class Gated(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = torch.nn.Linear(8, 16), torch.nn.Linear(8, 16)

        def forward(self, x):
            return self.first(x) * torch.sigmoid(self.second(x))

    recipe = edgekit.Recipe(
        name="gated",
        model=lambda: Gated().eval(),
        example=lambda: {"x": np.ones((2, 8), np.float32)},
        dynamic={"x": {0: "batch"}},
        outputs=["y"],
    )
    exported = edgekit.export(recipe, out=tmp_path / "gated.onnx")
    assert exported.parity["comparisons"] > 3
    assert len(exported.parity["sizes"]["batch"]) > 2
    assert exported.parity["max_abs_diff"] < 1e-4
    assert load(tmp_path / "gated.onnx")(np.zeros((7, 8), np.float32))["y"].shape == (7, 16)
