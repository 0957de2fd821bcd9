"""Execution providers beside onnxruntime's own: which of them are worth trying on a target, and in which schemes."""

from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.target import Target
from edgekit_runtime.machine import machine
from edgekit_runtime.plugins import OPENVINO, PLUGINS, available_providers
from edgekit_runtime.session import CPU, Provider

if TYPE_CHECKING:
    from edgekit_export import Scheme
    from edgekit_export.schemes import Part, Placement

__all__ = ["alternatives", "label", "portable", "schemes_for", "suits"]

LABELS = {OPENVINO: "openvino", "QNNExecutionProvider": "qnn", "WebGpuExecutionProvider": "webgpu"}
F32, BF16 = "f32", "bf16"
# Best first, as measured with OpenVINO 2026.4 on MobileNetV2, EfficientNet-Lite0 and MiniLM, one thread, AVX2 without VNNI.
OPENVINO_PLACEMENTS: "tuple[Placement, ...]" = ("linear", "conv", "weighted")
# Products alone, for transformers; on the CPU provider, all-MiniLM-L6-v2 is as fast so as in dynamic int8, at 21.1 dB SQNR with the
# correction where dynamic int8 has 18.6.
PRODUCTS: "Placement" = "weighted"


def alternatives(target: Target) -> list[Provider]:
    """Providers beside the target's own that are worth trying on it here; none unless the target is this machine.

    bfloat16 only where the processor multiplies it: elsewhere OpenVINO takes the hint and computes in float32.
    """
    if target.name != "host" or OPENVINO not in available_providers():
        return []
    here = machine()
    precisions = [F32, BF16] if here.architecture == "x86_64" and "bf16" in here.isa else [F32]
    return [found for precision in precisions if (found := Provider(OPENVINO, {"precision": precision})) != target.provider]


def schemes_for(provider: Provider, target: Target) -> "list[Scheme]":
    """Static schemes with float outputs that are worth trying on a provider, best first, in the target's first flavour for them.

    On the CPU provider they are for networks of products, such as transformers: it computes convolutions in them in float, and its
    product with a float output takes unsigned activations alone.
    """
    from edgekit_export.schemes import FLAVOURS, StaticInt8

    known = [FLAVOURS[name] for name in target.static if name in FLAVOURS]
    taken = [one for one in known if one.weight == "s8" and (provider.name != CPU or one.activation == "u8")]
    if not taken or provider.name not in (CPU, OPENVINO):
        return []
    flavour = taken[0]
    placements = (PRODUCTS,) if provider.name == CPU else OPENVINO_PLACEMENTS
    plain = [StaticInt8(flavour, "minmax", placement, outputs="float") for placement in placements]
    return [*plain, *(replace(scheme, corrections=("smoothed",)) for scheme in plain if scheme.placement == PRODUCTS)]


def suits(provider: Provider, scheme: "Scheme") -> str | None:
    """Why a scheme is not to be tried on a provider, in a sentence; ``None`` where it may be."""
    from edgekit_export.schemes import parts_of

    reasons = [_unsuitable(provider, part) for part in parts_of(scheme)]
    return next((reason for reason in reasons if reason is not None), None)


def label(provider: Provider) -> str:
    """What names of candidates call a provider, as in ``static-u8s8-minmax-conv@openvino``; nothing for the CPU provider."""
    if provider.name == CPU:
        return ""
    word = LABELS.get(provider.name, provider.name.removesuffix("ExecutionProvider").lower())
    precision = provider.options.get("precision", F32)
    return word if provider.name not in PLUGINS or precision == F32 else f"{word}-{precision}"


def portable(provider: Provider) -> bool:
    """Whether static schemes for a provider are to be left in plain Q and DQ nodes: what `quantize_as` is told."""
    return provider.name != CPU


def _unsuitable(provider: Provider, part: "Part") -> str | None:
    if provider.name == CPU:
        return _unsuitable_on_cpu(part)
    return _unsuitable_on_openvino(part, provider.options.get("precision", F32)) if provider.name == OPENVINO else None


def _unsuitable_on_cpu(part: "Part") -> str | None:
    from edgekit_export.schemes import StaticInt8

    if isinstance(part, StaticInt8) and part.outputs == "float" and part.placement in ("conv", "convnet"):
        return "onnxruntime's CPU provider computes a convolution in integers only where it gives integers"
    return None


def _unsuitable_on_openvino(part: "Part", precision: str) -> str | None:
    from edgekit_export.schemes import DynamicInt8, StaticInt8, WeightOnly

    if isinstance(part, DynamicInt8):
        return "OpenVINO does not take onnxruntime's operators for products with dynamic ranges"
    if isinstance(part, WeightOnly) and part.bits == 4:
        return "OpenVINO widens weights of 4 bits in blocks anew in every call, which takes longer than the product itself"
    if isinstance(part, StaticInt8):
        if part.flavour.wide:
            return "OpenVINO computes 16-bit activations in float, and wrongly on some processors, without a word"
        if part.flavour.weight == "u8":
            return "OpenVINO has no fast kernels for unsigned weights"
        if part.flavour.activation == "s8" and precision == BF16:
            return "OpenVINO fails on signed activations with bfloat16"
    return None
