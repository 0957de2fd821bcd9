"""Providers beside onnxruntime's own: which are tried where, in what, and what they are called."""

import msgspec
import numpy as np
import pytest

import edgekit.providers
from edgekit.providers import alternatives, label, portable, schemes_for, suits
from edgekit.scheme_names import scheme_named
from edgekit.target import load_target, target_names
from edgekit_runtime import Provider, ProviderError, SessionConfig, load
from edgekit_runtime.accuracy import difference
from edgekit_runtime.fresh_process import run_in_fresh_process
from edgekit_runtime.machine import machine
from edgekit_runtime.plugins import OPENVINO, plugin_devices
from edgekit_runtime.session import CPU

F32, BF16 = Provider(OPENVINO, {"precision": "f32"}), Provider(OPENVINO, {"precision": "bf16"})


def why_not() -> str:
    try:
        plugin_devices(OPENVINO)
    except ProviderError as error:
        return str(error)
    return ""


def extra(test):
    return pytest.mark.extra(pytest.mark.skipif(bool(why_not()), reason=why_not())(test))


@pytest.fixture
def here(monkeypatch):
    """This machine with other instruction sets, and with OpenVINO or without."""

    def put(*isa, installed=True, architecture="x86_64"):
        like = msgspec.structs.replace(machine(), isa=isa, architecture=architecture)
        monkeypatch.setattr(edgekit.providers, "machine", lambda: like)
        monkeypatch.setattr(edgekit.providers, "available_providers", lambda: (CPU, *((OPENVINO,) if installed else ())))

    return put


def test_openvino_is_an_alternative_on_this_machine_where_it_is_there(here):
    host = load_target("host")
    here("avx2", installed=False)
    assert alternatives(host) == []
    here("avx2", "vnni")
    assert alternatives(host) == [F32]
    here("avx2", "avx512", "vnni", "bf16")
    assert alternatives(host) == [F32, BF16]
    assert alternatives(msgspec.structs.replace(host, provider=F32)) == [BF16]


def test_other_targets_keep_to_their_provider(here):
    here("avx2", "vnni", "bf16")
    assert not any(alternatives(load_target(name)) for name in target_names() if name != "host")


@pytest.mark.parametrize(
    ("provider", "word"),
    [
        (Provider(), ""),
        (Provider(OPENVINO), "openvino"),
        (F32, "openvino"),
        (BF16, "openvino-bf16"),
        (Provider("QNNExecutionProvider", {"htp_arch": "75"}), "qnn"),
        (Provider("XnnpackExecutionProvider"), "xnnpack"),
    ],
)
def test_what_names_call_them(provider, word):
    assert label(provider) == word
    assert portable(provider) == bool(word)


@pytest.mark.parametrize("name", ["float32", "static-u8s8-minmax-conv", "static-u8s7-minmax-linear-floatoutputs", "float16-stored"])
@pytest.mark.parametrize("provider", [F32, BF16])
def test_what_openvino_is_given(name, provider):
    assert suits(provider, scheme_named(name)) is None


@pytest.mark.parametrize(
    ("name", "provider", "told"),
    [
        ("dynamic-u8s8", F32, "dynamic ranges"),
        ("static-u8s8-minmax-conv+dynamic-u8s8", F32, "dynamic ranges"),
        ("static-u16s8-minmax-linear", F32, "16-bit activations"),
        ("static-u8u8-minmax-convnet", F32, "unsigned weights"),
        ("static-s8s8-minmax-convnet", BF16, "signed activations with bfloat16"),
        ("weights-int4-b32", F32, "4 bits"),
        ("static-u8s8-minmax-conv-floatoutputs", Provider(), "only where it gives integers"),
    ],
)
def test_what_is_not_tried_says_why(name, provider, told):
    assert told in suits(provider, scheme_named(name))


def test_signed_activations_are_only_kept_from_bfloat16():
    assert suits(F32, scheme_named("static-s8s8-minmax-convnet")) is None


@pytest.mark.parametrize(
    "name", ["static-u8s8-minmax-everything", "static-u8s8-minmax-linear-floatoutputs", "dynamic-u8u8", "float16"]
)
def test_the_cpu_provider_may_be_given_anything_else(name):
    assert suits(Provider(), scheme_named(name)) is None


@pytest.mark.parametrize("provider", [Provider(), F32, BF16])
@pytest.mark.parametrize("name", ["cpu-x64", "cpu-x64-avx2", "openvino-cpu"])
def test_schemes_with_float_outputs_suit_the_provider_and_are_of_the_targets_flavour(name, provider):
    target = load_target(name)
    schemes = schemes_for(provider, target)
    assert schemes
    assert all(suits(provider, scheme) is None for scheme in schemes)
    assert all(scheme.outputs == "float" and scheme.flavour.name == target.static[0] for scheme in schemes)
    assert all(scheme_named(scheme.name) == scheme for scheme in schemes)


def test_other_providers_have_none():
    assert schemes_for(Provider("QNNExecutionProvider"), load_target("snapdragon-htp")) == []


@extra
@pytest.mark.parametrize("placement", ["convnet", "conv-floatoutputs", "linear-floatoutputs"])
def test_openvino_computes_plain_qdq_as_the_cpu_provider_does(tmp_path, placement):
    """Two kinds of kernels, one arithmetic: they are as far from float, and much nearer to each other."""
    from edgekit_export import calibrate, prepare, quantize_as, trace

    feeds = [{"image": np.random.default_rng(seed).standard_normal((1, 3, 32, 32)).astype(np.float32)} for seed in range(6)]
    graph = prepare(trace(_network(), feeds[0], {}, ["logits"]).graph, feeds[:1])
    scheme = scheme_named(f"static-u8s7-minmax-{placement}")
    graph.save(tmp_path / "float.onnx")
    quantize_as(graph, scheme, calibrate(graph, feeds).histograms, feeds, portable=True).graph.save(tmp_path / "int8.onnx")
    run_in_fresh_process(tmp_path / "int8.onnx", feeds[0], F32, SessionConfig(threads=1))
    wanted = [load(tmp_path / "float.onnx")(feed) for feed in feeds]
    got = {one.name: [load(tmp_path / "int8.onnx", provider=one)(feed) for feed in feeds] for one in (Provider(), F32)}
    assert difference([load(tmp_path / "float.onnx", provider=F32)(feed) for feed in feeds], wanted).sqnr_db > 90
    assert difference(got[OPENVINO], wanted).sqnr_db > 20
    assert difference(got[OPENVINO], wanted).sqnr_db > difference(got[CPU], wanted).sqnr_db - 2


def _network():
    import torch
    from torch import nn

    class Small(nn.Module):
        """Convolutions with Hardswish and ReLU6, a residual sum, and a product: what fuses, and what does not."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
            self.third, self.last = nn.Conv2d(16, 16, 1), nn.Linear(16, 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            x = nn.functional.hardswish(self.first(image))
            x = x + self.third(nn.functional.relu6(self.second(x)))
            return self.last(x.mean((2, 3)))

    torch.manual_seed(0)
    return Small().eval()
