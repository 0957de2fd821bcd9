"""The peers of `benchmarks.arm_peers`: their aarch64 wheels, their models, and the program that marks their calls on a board.

Modules that run on the board import numpy, the standard library and the peer alone: `on_board`, `ncnn_from_torch`.
"""
