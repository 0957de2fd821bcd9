"""The provider that was asked for, strictly, or a fallback that is reported."""

import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import onnxruntime as ort
import pytest

from edgekit_runtime import Provider, ProviderError, SessionConfig, SessionError, load
from edgekit_runtime.model import Model
from edgekit_runtime.session import CPU, open_session, session_options, short_reason

ABSENT = "QNNExecutionProvider"


def test_cpu_by_default(models):
    opened = open_session(models / "qdq.onnx")
    assert (opened.provider, opened.fallback_reason) == (CPU, None)
    assert opened.session.get_providers() == [CPU]


def test_an_absent_provider_is_refused_with_the_package_that_has_it(models):
    with pytest.raises(ProviderError, match=rf"{ABSENT} is not in this onnxruntime .*pip install onnxruntime-qnn, or allow fall"):
        load(models / "qdq.onnx", provider=ABSENT)
    with pytest.raises(ProviderError, match="install an onnxruntime build that has it"):
        load(models / "qdq.onnx", provider="NoSuchExecutionProvider")


def test_a_bundles_own_provider_is_taken_strictly_too(bundle, reseal):
    reseal(bundle, provider=Provider(ABSENT, {"backend_path": "libQnnHtp.so"}))
    with pytest.raises(ProviderError, match=ABSENT):
        load(bundle)
    assert load(bundle, provider=CPU).fallback_reason is None
    fallen = load(bundle, fallback=CPU)
    assert fallen.provider == CPU
    assert fallen.provider_options == {}
    assert ABSENT in fallen.fallback_reason


def test_a_fallback_is_reported(models):
    model = load(models / "qdq.onnx", provider=ABSENT, fallback=CPU)
    assert model.provider == CPU
    assert ABSENT in model.fallback_reason
    assert model(np.zeros((1, 4), np.float32))["y"].shape == (1, 3)


def test_a_fallback_that_is_not_needed_is_not_taken(models):
    assert load(models / "qdq.onnx", provider=CPU, fallback="NoSuchExecutionProvider").fallback_reason is None


def test_a_fallback_that_is_absent_too(models):
    with pytest.raises(ProviderError, match="NoSuchExecutionProvider"):
        load(models / "qdq.onnx", provider=ABSENT, fallback="NoSuchExecutionProvider")


@pytest.mark.skipif("AzureExecutionProvider" not in ort.get_available_providers(), reason="this onnxruntime has one provider")
def test_a_provider_that_does_not_take_the_model_is_refused(models):
    """Azure's provider runs remote operators only: strictly, nothing may silently go to the CPU instead."""
    with pytest.raises(ProviderError, match=r"open qdq\.onnx on AzureExecutionProvider: onnxruntime .* refused it"):
        load(models / "qdq.onnx", provider="AzureExecutionProvider")
    model = load(models / "qdq.onnx", provider="AzureExecutionProvider", fallback=CPU)
    assert model.provider == CPU
    assert "refused it" in model.fallback_reason


@pytest.mark.parametrize("data", [b"", b"junk", b"\x08\x08" * 9])
def test_a_corrupt_model_file(tmp_path, data, capfd):
    (tmp_path / "bad.onnx").write_bytes(data)
    with pytest.raises(SessionError, match=r"open bad\.onnx on CPUExecutionProvider: onnxruntime .* refused it: ") as caught:
        load(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)
    assert "[ONNXRuntimeError]" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_truncated_model_file_never_escapes_as_another_error(tmp_path, models):
    whole = (models / "qdq.onnx").read_bytes()
    for keep in range(0, len(whole), 23):
        (tmp_path / "cut.onnx").write_bytes(whole[:keep])
        # protobuf takes some cuts for whole files; those may open.
        with suppress(SessionError):
            load(tmp_path / "cut.onnx")


def test_session_entries_reach_onnxruntime(models):
    config = SessionConfig(threads=1, graph_optimization="disable", entries={"session.use_env_allocators": "0"})
    options = session_options(config)
    assert options.get_session_config_entry("session.use_env_allocators") == "0"
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with pytest.raises(SessionError, match="Config key is empty"):
        open_session(models / "qdq.onnx", config=SessionConfig(entries={"": "1"}))


DISABLED = "optimization.disable_specified_optimizers"


@pytest.mark.parametrize(
    ("config", "disabled"),
    [
        (SessionConfig(), "WeightBiasQuantization"),
        (SessionConfig(blocked_layout=False), "WeightBiasQuantization;NchwcTransformer"),
        (SessionConfig(blocked_layout=False, entries={DISABLED: ""}), "NchwcTransformer"),
        (SessionConfig(entries={DISABLED: "GeluFusion"}), "GeluFusion"),
    ],
)
def test_optimizers_that_are_switched_off_add_up(config, disabled):
    assert session_options(config).get_session_config_entry(DISABLED) == disabled


def test_spinning_and_the_arena_are_on_unless_switched_off(models):
    options = session_options(SessionConfig())
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (True, True)
    with pytest.raises(RuntimeError, match="does not have configuration with key"):
        options.get_session_config_entry("session.intra_op.allow_spinning")
    thrifty = SessionConfig(threads=2, spinning=False, memory_arena=False)
    options = session_options(thrifty)
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    feed = {"x": np.ones((2, 4), np.float32)}
    both = [Model(open_session(models / "qdq.onnx", config=config), models)(feed)["y"] for config in (SessionConfig(), thrifty)]
    np.testing.assert_array_equal(*both)


def test_threads_that_onnxruntime_cannot_count(models):
    with pytest.raises(SessionError, match=r"open qdq\.onnx"):
        load(models / "qdq.onnx", threads=2**40)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_threads_follow_affinity(models):
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from edgekit_runtime import load; print(load(sys.argv[1]).threads)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(models / "qdq.onnx")], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_onnxruntimes_messages_in_one_line():
    raw = "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Load model failed:/src/core/graph.cc:12 main it\nis : broken"
    assert short_reason(RuntimeError(raw)) == "Load model failed:main it is : broken"
    assert short_reason(RuntimeError()) == "RuntimeError"
    assert len(short_reason(RuntimeError("long " * 500))) == 300
