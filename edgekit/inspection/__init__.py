"""Looking into a model file: what it holds, how it is quantized, and what onnxruntime makes of it here."""
