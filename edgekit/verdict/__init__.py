"""The verdict: which candidate ships, and why each other one does not."""

from edgekit.verdict.certainty import is_certified, judgement
from edgekit.verdict.deciding import Verdict, decide
from edgekit.verdict.front import front
from edgekit.verdict.gates import Refusal, accuracy_gate, gate
from edgekit.verdict.tried import FLOAT, Left, Optimize, Tried

__all__ = [
    "FLOAT",
    "Left",
    "Optimize",
    "Refusal",
    "Tried",
    "Verdict",
    "accuracy_gate",
    "decide",
    "front",
    "gate",
    "is_certified",
    "judgement",
]
