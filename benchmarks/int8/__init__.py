"""What ``benchmarks/int8_quality.py`` is made of: the networks and their schemes, onnxruntime's own quantizers, the measuring."""
