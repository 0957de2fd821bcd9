"""The model card: what the manifest says, in Markdown that cannot be broken, and nothing more."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgekit
from edgekit.model_card import model_card
from edgekit_runtime.bundle import file_entry
from edgekit_runtime.errors import BundleError, OutputError
from edgekit_runtime.manifest import MANIFEST, Chosen, FileEntry, InputRange, Manifest, encode_manifest
from edgekit_runtime.measurement import Measurement
from edgekit_runtime.session import Provider, SessionConfig
from edgekit_runtime.tensors import TensorSpec

FLOAT = Measurement(metric=0.93, latency_ms=10.0, size_bytes=4_000_000, peak_rss_bytes=90_000_000)
FIGURES = Measurement(
    metric=0.928,
    metric_drop=0.002,
    metric_drop_ci=(-0.001, 0.004),
    latency_ms=5.0,
    speedup=2.0,
    speedup_ci=(1.9, 2.1),
    size_bytes=1_000_000,
    sqnr_db=31.2,
    max_abs_diff=0.5,
)


def manifest(**changes):
    fields = {
        "format": 1,
        "name": "fashion",
        "created": "2026-11-22T12:00:00+00:00",
        "model": "model.onnx",
        "inputs": [TensorSpec("image", "float32", ("batch", 1, 28, 28))],
        "outputs": [TensorSpec("logits", "float32", ("batch", 10))],
        "target": "raspberry-pi-4",
        "provider": Provider(),
        "session": SessionConfig(threads=2),
        "preprocessing": {"image": InputRange(-0.81, 2.02)},
        "isa": {"aarch64": ["asimddp"]},
        "onnxruntime": "1.22",
        "chosen": Chosen("static-s8s8", "int8", "static-s8s8: certified (budget 0.005)", True, FIGURES),
        "baseline": FLOAT,
        "tools": {"onnx": "1.23.2"},
        "files": {"model.onnx": FileEntry("ab" * 32, 1_000_000)},
    }
    return Manifest(**(fields | changes))


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "fashion.edge"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    (folder / MANIFEST).write_bytes(encode_manifest(manifest(files={"model.onnx": file_entry(folder / "model.onnx")})))
    return folder


def test_it_says_what_a_device_needs_to_know():
    text = model_card(manifest(), "fashion.edge")
    for part in (
        "# fashion\n",
        "| Target | raspberry-pi-4 |",
        "| Precision | 8-bit integers |",
        "static-s8s8: certified (budget 0.005)",
        "| Metric lost | — | 0.0020 [−0.0010 to 0.0040] |",
        "| Times as fast as float | — | 2.00× [1.90 to 2.10] |",
        "| Size of the model's files | 4.00\u00a0MB | 1.00\u00a0MB |",
        "**Certified**",
        "| input | `image float32[batch, 1, 28, 28]` | −0.810 to 2.02 |",
        "aarch64 with asimddp",
        "onnxruntime 1.22 or newer, on `CPUExecutionProvider`",
        "`threads` = `2`",
        'load("fashion.edge")',
    ):
        assert part in text, part


def test_what_was_not_measured_is_not_claimed():
    unknown = Chosen("static-s8s8", "int8", "accepted without a metric", False, Measurement(size_bytes=5))
    text = model_card(manifest(chosen=unknown, baseline=Measurement(size_bytes=9), preprocessing={}, isa={}), "x.edge")
    for row in ("Metric", "Latency", "Peak memory", "Cold start"):
        assert f"| {row} |" not in text
    for limit in ("the metric was not measured", "latency was not measured", "nothing was calibrated", "how much memory"):
        assert limit in text.partition("does not claim")[2]
    assert "**Certified**" not in text
    assert "for the figures above to hold" not in text


NASTY = ["a|b", "<script>x</script>", "# top", "`x`", "a\n\n# b", "[a](http://b)", "--- | ---", "\\|"]
HOSTILE = st.text(max_size=30) | st.sampled_from(NASTY)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_text_breaks_out_of_its_place(name, reason, tensor, folder):
    plain = model_card(manifest(), "x.edge")
    chosen = Chosen(name, "int8", reason, True, FIGURES)
    text = model_card(manifest(name=name, chosen=chosen, target=name, inputs=[TensorSpec(tensor, "float32", (tensor,))]), folder)

    def headings(card):
        return [line for line in re.split("\n", card) if line.startswith("## ")]

    def columns(card):
        rows = [line for line in card.split("\n") if line.startswith("|")]
        return [len(re.findall(r"(?<!\\)\|", row)) for row in rows]

    assert headings(text) == headings(plain)
    assert columns(text) == columns(plain)
    # What is escaped opens nothing, neither a tag nor code.
    assert "<script" not in re.sub("`[^`]*`", "", re.sub(r"\\[<`]", "", text))


def test_it_is_printed_or_written_beside_the_bundle(bundle, cli, tmp_path):
    printed = cli("card", bundle)
    assert printed.status == 0
    assert printed.out.startswith("# fashion\n")
    out = tmp_path / "card.md"
    assert cli("card", bundle, "--out", out).status == 0
    assert out.read_text("utf-8") == printed.out
    assert '"saved":null' in cli("card", bundle, "--json").out
    with pytest.raises(OutputError, match="write the card beside"):
        edgekit.card(bundle, out=bundle / "card.md")
    with pytest.raises(OutputError, match=r"ends in \.md"):
        edgekit.card(bundle, out=tmp_path / "card.html")
    (bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError):
        edgekit.card(bundle)
