"""One model's figures on this machine."""

import numpy as np
import pytest

from edgekit_runtime import InputError, Model, load
from edgekit_runtime import benchmark as module
from edgekit_runtime.benchmark import benchmark, example_feed, size_bytes
from edgekit_runtime.fresh_process import FreshRun


def test_figures_of_a_bundle(shared_bundle, monkeypatch):
    orders = []

    def fresh(*order):
        orders.append(order)
        return FreshRun(12.5, 1000)

    monkeypatch.setattr(module, "run_in_fresh_process", fresh)
    model = load(shared_bundle, threads=1)
    found = benchmark(model, example_feed(model), rounds=3)
    assert (found.cold_start_ms, found.peak_rss_bytes, found.threads) == (12.5, 1000, 1)
    assert found.size_bytes == (shared_bundle / "model.onnx").stat().st_size
    assert found.latency_ms > 0
    assert found.calls >= 9
    file, feed, provider, config = orders[0]
    assert file == shared_bundle / "model.onnx"
    assert (provider.name, config.threads) == ("CPUExecutionProvider", 1)
    assert feed["x"].shape == (1, 4)


def test_the_example_of_a_bundle_is_its_first_golden_input(shared_bundle, models):
    feed = example_feed(load(shared_bundle))
    assert feed["x"].shape == (1, 4)
    assert feed.keys() == {"x"}
    model = load(models / "two_inputs.onnx")
    feed = example_feed(model)
    assert (feed["x"].shape, feed["ids"].shape) == ((1, 4), (1,))
    assert model(feed)["out"].shape == (1, 3)
    np.testing.assert_array_equal(example_feed(model)["x"], feed["x"])


def test_no_example_for_texts(models):
    with pytest.raises(InputError, match=r"example for words object\[words\]: .*give a feed with --input"):
        example_feed(load(models / "kinds.onnx"))


def test_size_counts_the_external_data_beside_the_model(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"12345")
    assert size_bytes(tmp_path / "m.onnx") == 5
    (tmp_path / "m.onnx.data").write_bytes(b"1234567")
    assert size_bytes(tmp_path / "m.onnx") == 12


def test_model_is_the_public_class(shared_bundle):
    assert isinstance(load(shared_bundle), Model)
