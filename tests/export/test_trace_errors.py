"""What a module that cannot be exported is told: one line with the file, the line of code and what to change."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit_export import trace
from edgekit_runtime.errors import RecipeError, TraceError

BATCH = {"x": {0: "batch"}}


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x)


class ChoosesByValue(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        doing = {True: "add", False: "keep"}
        chosen = doing[bool(x.mean() > 0)]  # the line
        return self.layer(x) if chosen == "keep" else self.layer(x) + 1


class BranchesOnNumpy(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum().numpy() > 0 else -5 * self.layer(x)  # the line


class LoopsOverLengths(Linear):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[i, :n].sum() for i, n in enumerate(lengths.tolist())])  # the line


class AddsPositions(Linear):
    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + self.positions)  # the line


class Interpolated(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.interp(x.detach().numpy(), [0.0, 1.0], [0.0, 2.0]))  # the line

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class CallsNumpy(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Interpolated.apply(self.layer(x))


class Eigenvalues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(x).real  # the line


class CountsCalls(Linear):
    def __init__(self, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("seen", torch.full((2,), torch.nan), persistent=persistent)
        self.register_buffer("calls", torch.zeros(()), persistent=persistent)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1  # the line
        return self.layer(x) + self.calls


class Holds(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class FoldsBySeven(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.reshape(-1, 7))  # the line


class TakesItsOwnBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start, self.lstm = nn.Parameter(torch.zeros(1, 1, 4)), nn.LSTM(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x, (self.start, self.start))[0]  # the line


class GivesANumber(Linear):
    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x), 3


class GivesBfloat16(Linear):
    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x).bfloat16()


class GivesNothing(Linear):
    def forward(self, x: torch.Tensor) -> Any:
        return [] if x is not None else x


def line_of(owner: type) -> str:
    """FILE:LINE of the line marked in a class."""
    lines, first = inspect.getsourcelines(owner)
    return f"{__file__}:{first + next(index for index, line in enumerate(lines) if '# the line' in line)}:"


def told(error: BaseException) -> str:
    """The first line of a message: what a person reads; torch's own words may follow on a second."""
    first, *rest = str(error).splitlines()
    assert len(rest) <= 1
    assert all(line.startswith("  torch said: ") for line in rest)
    return first


NO_ROUTE = {
    "data": (ChoosesByValue, {"x": floats(3, 4)}, BATCH, ChoosesByValue, "depends on the data.*torch.where"),
    "lengths": (
        LoopsOverLengths,
        {"x": floats(3, 4), "lengths": np.array([1, 2, 3])},
        {**BATCH, "lengths": {0: "batch"}},
        LoopsOverLengths,
        "'batch' is declared dynamic, but forward.. fixes its size.*loops.*leave it out of the recipe's dynamic",
    ),
    "axis": (AddsPositions, {"x": floats(4, 4)}, BATCH, AddsPositions, "forward.. .*'?batch.*recipe.*dynamic"),
    "branch on numpy": (BranchesOnNumpy, {"x": floats(3, 4)}, BATCH, BranchesOnNumpy, "numpy.*torch operators|depends on the data"),
    "numpy": (CallsNumpy, {"x": floats(3, 4)}, BATCH, Interpolated, "autograd function or numpy.*torch operators"),
    "operator": (Eigenvalues, {"x": floats(4, 4)}, {}, Eigenvalues, "linalg_eig has no ONNX form.*replace it"),
}


@pytest.mark.parametrize(("module", "example", "dynamic", "owner", "words"), NO_ROUTE.values(), ids=NO_ROUTE)
def test_a_module_that_no_route_can_take(
    module: Callable[[], nn.Module],
    example: dict[str, np.ndarray],
    dynamic: dict[str, dict[int, str]],
    owner: type,
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(TraceError) as caught:
        trace(module().eval(), example, dynamic, ["y"])
    message = told(caught.value)
    assert line_of(owner) in message
    assert re.search(words, message), message
    assert caught.value.__cause__ is not None
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("persistent", [True, False])
def test_a_buffer_changed_in_place_is_named_with_its_line(persistent: bool) -> None:
    with pytest.raises(TraceError, match=r"'inner.calls' in place .*input.*return its new value") as caught:
        trace(Holds(CountsCalls(persistent)).eval(), {"x": floats(3, 4)}, BATCH, ["y"])
    assert line_of(CountsCalls) in told(caught.value)


def test_an_example_that_forward_refuses() -> None:
    with pytest.raises(TraceError, match=r"run FoldsBySeven on the recipe's example .*float32\[3, 4\].*make example") as caught:
        trace(FoldsBySeven().eval(), {"x": floats(3, 4)}, BATCH, ["y"])
    assert line_of(FoldsBySeven) in told(caught.value)


def test_a_size_that_forward_refuses() -> None:
    with pytest.raises(TraceError, match=r"run TakesItsOwnBatch at time=5, batch=2: .*must take every size of an axis") as caught:
        trace(TakesItsOwnBatch().eval(), {"x": floats(5, 1, 4)}, {"x": {0: "time", 1: "batch"}}, ["y"])
    assert line_of(TakesItsOwnBatch) in told(caught.value)


@pytest.mark.parametrize(
    ("module", "words"),
    [(GivesANumber, "gives int, expected"), (GivesBfloat16, r"bfloat16.*\.float\(\)"), (GivesNothing, "gives nothing")],
)
def test_outputs_that_are_no_tensors_of_numbers(module: type[Linear], words: str) -> None:
    with pytest.raises(TraceError, match=words):
        trace(module().eval(), {"x": floats(3, 4)}, BATCH, ["y"])


def test_a_module_in_training_mode() -> None:
    with pytest.raises(RecipeError, match=r"Linear is in training mode; return module.eval\(\)"):
        trace(Linear(), {"x": floats(3, 4)})


def test_what_is_no_module() -> None:
    with pytest.raises(RecipeError, match=r"it returned function, expected a torch.nn.Module"):
        trace(floats, {"x": floats(3, 4)})


class Two(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x - y


@pytest.mark.parametrize(
    "names", [["x"], ["x", "z"], ["y", "x"], ["x", "y", "z"]], ids=["missing", "unknown", "wrong order", "too many"]
)
def test_example_keys_that_are_not_forwards_parameters(names: list[str]) -> None:
    with pytest.raises(RecipeError, match=r"forward takes \(x, y\); use forward's parameter names, in its order") as caught:
        trace(Two().eval(), {name: floats(2) for name in names})
    assert repr(names) in told(caught.value)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (["a", "b"], r"2 names, Linear.forward gives 1 tensors of shapes \[\[3, 3\]\]"),
        (["x"], "'x' is an input's name too"),
    ],
)
def test_output_names_that_do_not_fit(outputs: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        trace(Linear().eval(), {"x": floats(3, 4)}, outputs=outputs)
