"""Why edgekit's choice lost to the best rival of equal or better SQNR, by network: written by hand, each with its evidence."""

__all__ = ["CAUSES"]

CAUSES: dict[str, str] = {
    "fashion": (
        "45 nodes in 0.33 ms: onnxruntime takes 1 to 2 µs for a node whatever it computes, LiteRT's float32 less; of integers only "
        "dynamic products gain anything here, 1.05×"
    ),
    "mobilenet-v3": "the same recipe, dynamic products, within the rounds' spread; convolutions in integers do not reach 20 dB",
    "resnet18": (
        "OpenVINO's int8 convolutions are 1.10 times as fast as onnxruntime's on AVX2 without VNNI, and its plugin takes no AMD "
        "processor"
    ),
    "silero-vad": (
        "28 nodes in 64 µs: what a node costs onnxruntime, as in fashion; a quarter of it is one LSTM step. Fewer nodes still "
        "(ReduceL2, trimmed taps, Gemm for convolutions of length 1) measured no gain"
    ),
    "gru": "both are float32, 2 to 5 % apart: onnxruntime has no integer GRU",
}
