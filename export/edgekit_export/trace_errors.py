"""Exporters' failures in plain words: which line of the user's model, and what to change."""

import logging
import re
from collections.abc import Mapping

import numpy as np

from edgekit_export.example_feeds import Dynamic
from edgekit_export.routes import exported_program, quiet_torch
from edgekit_export.torch_module import TorchModel
from edgekit_export.user_code import current_user_line, error_chain, last_user_line, user_line_in_text
from edgekit_runtime.errors import TraceError

__all__ = ["translate"]


def translate(error: BaseException, model: TorchModel, feed: Mapping[str, np.ndarray], dynamic: Dynamic) -> TraceError:
    """What the user should read instead of `error`."""
    chain = list(error_chain(error))
    names = " ".join(type(link).__name__ for link in chain)
    text = "\n".join(str(link) for link in chain)
    where = last_user_line(error)
    subject = f"trace {type(model.module).__name__}"
    if "GuardOnDataDependentSymNode" in names or "data-dependent" in text:
        message = (
            f"{subject}: the flow of forward() depends on the data{where}, which a graph cannot follow; compute both sides and "
            "choose with torch.where, or keep lengths fixed and mask"
        )
    elif "ConstraintViolation" in names or "Constraints violated" in text or "specialized" in text:
        axes = sorted({label for labels in dynamic.values() for label in labels.values() if re.search(rf"\b{label}\b", text)})
        called = " and ".join(repr(axis) for axis in axes) or "an axis"
        where = _specializing_line(model, feed, dynamic) or where
        message = (
            f"{subject}: {called} is declared dynamic, but forward() fixes its size{where}; do without Python numbers and loops "
            "taken from the shape (use x.size(0) in views, -1, or batched operators), or leave it out of the recipe's dynamic"
        )
    elif "DispatchError" in names or "UnsupportedOperatorError" in names or "No ONNX function found" in text:
        operator = re.search(r"op='([\w.]+)'|operator '([\w:]+)'", text)
        called = next((group for group in operator.groups() if group), "an operator") if operator else "an operator"
        where = _operator_line(model, feed, dynamic, called) or where
        message = f"{subject}: {called} has no ONNX form{where}; replace it by operators that have one"
    elif ".numpy()" in text or "PythonOp" in text or "autograd.Function" in text or "Subgraph" in text:
        message = (
            f"{subject}: a custom autograd function or numpy code runs inside forward(){where}, which no exporter can see into; "
            "write its forward in torch operators"
        )
    elif re.search(r"in-?place|mutat|as_strided|alias", text, re.IGNORECASE):
        message = f"{subject}: forward() writes into a tensor in place{where}; make a new tensor instead (torch.where, torch.cat)"
    else:
        message = f"{subject}: {type(chain[-1]).__name__}: {_first_lines(str(chain[-1]))}{where}"
    return TraceError(f"{message}\n  torch said: {_first_lines(str(chain[-1]))}")


def _first_lines(text: str) -> str:
    return " ".join(text.split())[:300]


def _operator_line(model: TorchModel, feed: Mapping[str, np.ndarray], dynamic: Dynamic, operator: str) -> str:
    """The user's line of the first call of `operator`, from the exported program's own record."""
    try:
        with quiet_torch():
            program = exported_program(model, feed, dynamic, strict=False)
    except Exception:  # noqa: BLE001 - the original error is what is reported; this only looks for a line
        return ""
    short = operator.rpartition(".")[2].rpartition("::")[2]
    for node in program.graph.nodes:
        if node.op == "call_function" and short in str(node.target):
            return user_line_in_text(str(node.meta.get("stack_trace", "")))
    # A composite operator is split up while exporting: any node that came from the user's line names it in its source.
    for node in program.graph.nodes:
        if short in str(node.meta.get("stack_trace", "")):
            return user_line_in_text(str(node.meta["stack_trace"]))
    return ""


def _specializing_line(model: TorchModel, feed: Mapping[str, np.ndarray], dynamic: Dynamic) -> str:
    """The user's line that made a size constant: the one that runs while torch logs the guard it adds."""
    lines: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "[guard added]" in record.getMessage():
                lines.append(current_user_line())

    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    handler, level, handlers, propagate = Collect(logging.INFO), logger.level, logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        exported_program(model, feed, dynamic, strict=False)
    except Exception:  # noqa: BLE001 - expected to fail again; only the lines are wanted
        return next((line for line in reversed(lines) if line), "")
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    return ""
