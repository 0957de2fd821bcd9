"""Recurrent layers: which of them survive 8 bits.

onnxruntime's dynamic quantizer gives an LSTM's weights one scale a row, a row being one unit of one gate, and its kernel
(``DynamicQuantizeLSTM``) takes no finer ones. A single large weight in a row, typically that of an input with small values, then
takes the steps away from all others. The error of the weights as a whole hides that, since the outlier's own energy is in it;
so fidelity is judged input by input: the energy of an input's weights in a gate against the energy of their errors, and the
median over inputs is what a typical input is left with.

GRU has no integer kernel in onnxruntime at all, nor has RNN; `passes.unroll_gru_steps` makes products of those that run one step.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgekit_export.graph import Graph
from edgekit_export.rewiring import constant
from edgekit_export.schemes import Flavour

__all__ = ["LEAST_DB", "Fidelity", "gate_fidelity", "lstm_fidelity", "recurrent_to_spare"]

LEAST_DB = 26.0
"""The least fidelity that is quantized.

Weights of a normal distribution keep 37 dB in 7 bits. Measured on an LSTM of 64 inputs and 96 units with one input's weights
scaled up: with 38 dB here the outputs have 31 dB of SQNR, with 32 dB 27 to 29, with 26 dB 22 to 25, with 20 dB 16 to 22, with 14 dB
11 to 21.
"""

GATES = {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"}
QUANTIZED = frozenset({"LSTM"})


@dataclass(frozen=True)
class Fidelity:
    """What 8 bits leave of a recurrent layer's weights.

    Attributes:
        input_db: Of the weights of the input, the worst gate, in dB.
        recurrent_db: Of those of the state, the worst gate, in dB.
        worst: Which that is, in words, such as ``input weights of gate f``.
    """

    input_db: float
    recurrent_db: float
    worst: str

    @property
    def least_db(self) -> float:
        """The worse of the two."""
        return min(self.input_db, self.recurrent_db)


def gate_fidelity(weight: np.ndarray, gates: int, bits: int) -> np.ndarray:
    """What a typical input keeps of its weights in each gate, in dB: (directions, gates).

    Args:
        weight: (directions, gates · units, inputs), gates in blocks, as ONNX has them.
        gates: How many gates.
        bits: 8, or 7 in flavours with a reduced range.
    """
    wide = weight.astype(np.float64)
    largest = np.abs(wide).max(axis=2, keepdims=True)
    step = np.where(largest > 0, largest, 1.0) / (2 ** (bits - 1) - 1)
    error = np.rint(wide / step) * step - wide
    blocks = (weight.shape[0], gates, -1, weight.shape[2])
    energy, lost = (np.square(array.reshape(blocks)).sum(axis=2) for array in (wide, error))
    # An input without weights has nothing to lose; one that is exact loses nothing.
    tiny = np.finfo(np.float64).tiny
    decibels = 10 * (np.log10(np.maximum(energy, tiny)) - np.log10(np.maximum(lost, tiny)))
    decibels = np.where(energy > 0, decibels, np.inf)
    return np.median(decibels, axis=2)


def lstm_fidelity(node: ir.Node, bits: int) -> Fidelity | None:
    """What an LSTM's weights keep in `bits`; ``None`` where they are no constants."""
    of_input, of_state = (constant(node.inputs[index]) for index in (1, 2))
    if of_input is None or of_state is None:
        return None
    found = {"input": gate_fidelity(of_input, 4, bits), "recurrent": gate_fidelity(of_state, 4, bits)}
    worst = min(found, key=lambda name: float(found[name].min()))
    direction, gate = np.unravel_index(int(found[worst].argmin()), found[worst].shape)
    where = f"{worst} weights of gate {GATES['LSTM'][gate]}{', backward' if direction else ''}"
    return Fidelity(float(found["input"].min()), float(found["recurrent"].min()), where)


def recurrent_to_spare(graph: Graph, flavour: Flavour, least_db: float = LEAST_DB) -> dict[str, str]:
    """Recurrent layers that should stay float in dynamic int8, by node name, each with the reason as a sentence.

    Args:
        graph: A prepared graph, after `passes.split_outlier_inputs`, which mends many of them.
        flavour: Of the scheme; onnxruntime makes an LSTM's weights signed in any.
        least_db: The least fidelity, see `LEAST_DB`.
    """
    # Unsigned flavours exist for processors where full signed weights saturate: LSTM weights then get 7 bits.
    bits = 8 if flavour.weight == "s8" and not flavour.reduced else 7
    spared = {}
    for node in graph.model.graph.all_nodes():
        name = str(node.name)
        if node.op_type not in GATES or node.domain != "":
            continue
        if node.op_type not in QUANTIZED:
            spared[name] = f"{node.op_type} {name} stays float: onnxruntime has no integer kernel for it"
            continue
        fidelity = lstm_fidelity(node, bits)
        if fidelity is None:
            spared[name] = f"LSTM {name} stays float: its weights are computed and no constants"
        elif fidelity.least_db < least_db:
            spared[name] = (
                f"LSTM {name} stays float: outliers would leave its {fidelity.worst} {fidelity.least_db:.0f} dB in {bits} bits, "
                f"{least_db:.0f} dB are needed"
            )
    return spared
