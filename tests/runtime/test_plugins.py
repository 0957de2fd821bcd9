"""Providers that come in packages of their own: registered once, taken strictly, told how to compute."""

import json
import sys

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import Provider, ProviderError, SessionConfig, load, plugins
from edgekit_runtime.fresh_process import run_in_fresh_process
from edgekit_runtime.plugins import OPENVINO, PLUGINS, available_providers, plugin_devices, plugin_options
from edgekit_runtime.selftest import selftest
from edgekit_runtime.session import CPU, open_session

F32, BF16 = Provider(OPENVINO, {"precision": "f32"}), Provider(OPENVINO, {"precision": "bf16"})
FEED = {"x": np.linspace(-2, 2, 8, dtype=np.float32).reshape(2, 4)}


def why_not() -> str:
    try:
        plugin_devices(OPENVINO)
    except ProviderError as error:
        return str(error)
    return ""


WHY_NOT = why_not()


def extra(test):
    return pytest.mark.extra(pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)(test))


@pytest.fixture
def stand_in(monkeypatch):
    """Puts another package in the place of OpenVINO's."""

    def put(**changes):
        monkeypatch.setitem(PLUGINS, OPENVINO, msgspec.structs.replace(PLUGINS[OPENVINO], **changes))
        monkeypatch.setattr(plugins, "_devices", lambda _: ())

    return put


def test_providers_that_can_be_had_can_be_opened(models):
    found = available_providers()
    assert CPU in found
    assert (OPENVINO in found) == (not WHY_NOT)
    assert not any("." in name for name in found), "OpenVINO's AUTO chooses the device itself"


def test_a_missing_package_is_answered_with_the_command(models, stand_in):
    stand_in(module="no_such_module_of_openvino")
    with pytest.raises(
        ProviderError, match=rf"open qdq\.onnx: {OPENVINO} is not installed; pip install onnxruntime-ep-openvino, or "
    ):
        load(models / "qdq.onnx", provider=F32)
    fallen = load(models / "qdq.onnx", provider=F32, fallback=CPU)
    assert fallen.provider == CPU
    assert "pip install onnxruntime-ep-openvino" in fallen.fallback_reason
    assert OPENVINO not in available_providers()


def test_a_library_that_does_not_load(models, stand_in, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin_package.py").write_text("def get_library_path():\n    return '/no/such/library.so'\n")
    monkeypatch.syspath_prepend(tmp_path)
    stand_in(module="broken_plugin_package", package="broken-plugin")
    for _ in range(2):
        with pytest.raises(
            ProviderError, match=r"broken-plugin of an unknown release does not load into onnxruntime .*/no/such/lib"
        ):
            load(models / "qdq.onnx", provider=F32)
    assert OPENVINO not in available_providers()
    assert load(models / "qdq.onnx").provider == CPU
    sys.modules.pop("broken_plugin_package")


def test_a_plugin_without_a_device_here(models, stand_in, monkeypatch):
    stand_in(module="json")
    monkeypatch.setattr(plugins, "_register", lambda _: None)
    with pytest.raises(
        ProviderError, match=r"takes no device of this machine: it takes processors .*use another provider, or allow"
    ):
        load(models / "qdq.onnx", provider=F32)


@given(st.integers(1, 256), st.sampled_from(["f32", "bf16", None]))
def test_precision_and_threads_are_always_said(threads, precision):
    told = plugin_options(OPENVINO, {} if precision is None else {"precision": precision}, threads)
    config = json.loads(told["load_config"])["CPU"]
    assert config["INFERENCE_PRECISION_HINT"] == (precision or "f32")
    assert config["INFERENCE_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize("options", [{"precision": "f64"}, {"precison": "f32"}, {"load_config": "{}"}])
def test_unknown_options_are_refused(models, options):
    with pytest.raises(ProviderError, match=r"open qdq\.onnx: OpenVINO.* it takes precision, one of f32, bf16"):
        open_session(models / "qdq.onnx", Provider(OPENVINO, options))


@extra
def test_openvino_computes_what_the_cpu_provider_does(models):
    model = load(models / "qdq.onnx", provider=F32, threads=1)
    assert (model.provider, model.threads, model.provider_options) == (OPENVINO, 1, {"precision": "f32"})
    np.testing.assert_allclose(model(FEED)["y"], load(models / "qdq.onnx")(FEED)["y"], atol=0.05)


@extra
def test_openvinos_threads_are_those_asked_for(models):
    for threads in (1, 2):
        opened = open_session(models / "qdq.onnx", F32, SessionConfig(threads=threads))
        told = opened.session.get_provider_options()[OPENVINO]["load_config"]
        assert json.loads(told)["CPU"]["INFERENCE_NUM_THREADS"] == str(threads) == str(opened.threads)


@extra
def test_a_bundle_for_openvino_opens_tests_itself_and_runs_in_a_fresh_process(bundle, reseal):
    reseal(bundle, provider=F32, session=SessionConfig(threads=1))
    model = load(bundle)
    assert model.provider == OPENVINO
    assert selftest(model).passed
    assert run_in_fresh_process(bundle / "model.onnx", FEED, F32, SessionConfig(threads=1)).cold_start_ms > 0


@extra
@pytest.mark.parametrize("provider", [F32, BF16])
def test_a_damaged_model_is_refused_in_one_line(tmp_path, provider):
    (tmp_path / "bad.onnx").write_bytes(b"junk")
    with pytest.raises(ProviderError, match=r"open bad\.onnx on OpenVINOExecutionProvider: onnxruntime .* refused it: ") as caught:
        open_session(tmp_path / "bad.onnx", provider)
    assert "\n" not in str(caught.value)
