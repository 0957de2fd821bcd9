"""Why edgekit's choice executes more instructions than the best rival, where it does: what was found when it was looked into.

Figures are instructions for each of a layer's multiplications, the call's own cost taken off, of single layers of
EfficientNet-Lite0: 1 × 1 convolutions between 40 and 240 channels of 28 × 28, depthwise ones of 3 × 3 and 5 × 5.
"""

__all__ = ["CAUSES"]

NO_DOT = (
    "without dot products int8 saves little: 1×1 convolutions take 0.42-0.56 in onnxruntime's S8S8 kernel (1.6-1.9 vector "
    "instructions beside each widening multiply), 0.34-0.43 in XNNPACK's, and float FMA alone 0.33-0.42"
)
CAUSES: dict[tuple[str, str], str] = {
    ("raspberry-pi-4", "fashion"): (
        f"{NO_DOT}; onnxruntime's float is no way out, since its depthwise convolutions take 2.8-8.6 (LiteRT 0.9-2.8); "
        "its float attention and MLP alone take 2.46 M, and hard swishes in int8 are operators of their own"
    ),
    ("raspberry-pi-4", "efficientnet-lite0"): (
        f"{NO_DOT}; onnxruntime's float is no way out, since its depthwise convolutions take 2.8-8.6 (LiteRT 0.9-2.8, int8 0.8-2.4)"
    ),
    ("raspberry-pi-5", "efficientnet-lite0"): (
        "ncnn's half floats take eight products an instruction and requantize nothing; of int8, onnxruntime's 1×1 convolutions "
        "take 0.22-0.25 where XNNPACK's take 0.17-0.20, with twice the loads; depthwise ones are on a par"
    ),
}
"""By board and network."""
