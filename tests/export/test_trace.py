"""Tracing real modules: names, axes, routes, and graphs that must not be believed."""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekit_export import Graph, Traced, trace
from edgekit_runtime import load
from edgekit_runtime.errors import ParityError

BATCH = {"x": {0: "batch"}}


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)


class Nested(Linear):
    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> Any:
        y = self.layer(x) + shift
        return y, {"total": y.sum(1), "parts": [x, (y > 0, y)]}


class OnTheSign(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return self.layer(x)
        return self.layer(x) * 2


class UntilLarge(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        while y.sum() < 100.0:
            y = y + 1.0
        return y


class OddAtFour(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if x.shape[0] == 4:
            y = y + 1
        return y


class Drawn(Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * random.random()


class Counting(Linear):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(x) * self.calls


class Halving(nn.Module):
    """Takes even lengths only."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv1d(1, 4, 4, 2, 1), nn.ConvTranspose1d(4, 1, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.up(self.down(x).relu())


class HalfPrecision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).mean((2, 3)))


class Named(nn.Module):
    """Its weight is called what its output is to be called."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.ones(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.scores


class Gapped(Linear):
    """Its example leaves out the parameter in the middle."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, shift: torch.Tensor | None = None) -> torch.Tensor:
        y = self.layer(x if mask is None else x * mask)
        return y if shift is None else y + shift


class Found(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(x > 0)


def same_at(traced: Traced, folder: Path, *feeds: dict[str, np.ndarray]) -> None:
    """Runs the saved graph beside the module."""
    traced.graph.save(folder / "model.onnx")
    model = load(folder / "model.onnx")
    for feed in feeds:
        outputs, wanted = model(feed), traced.model(feed)
        assert outputs.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_allclose(outputs[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def shapes(graph: Graph) -> dict[str, tuple[int | str, ...]]:
    return {spec.name: spec.shape for spec in (*graph.inputs, *graph.outputs)}


def test_parity_covers_batches_and_seeds(conv: Traced) -> None:
    assert conv.route == "torch.export"
    assert conv.failed_routes == {}
    assert conv.parity is not None
    assert conv.parity.sizes == {"batch": (1, 2, 3, 4, 8)}
    assert conv.parity.comparisons == 8  # the example, two seeds, five batches
    assert conv.parity.max_abs_diff < 1e-4
    assert conv.parity.sqnr_db > 80


def test_outputs_of_a_nest_are_named_in_order(tmp_path: Path) -> None:
    names = ["y", "total", "given", "positive", "again"]
    example = {"x": floats(2, 4), "shift": floats(2, 3)}
    traced = trace(Nested().eval(), example, {**BATCH, "shift": {0: "batch"}}, names)
    assert shapes(traced.graph) == {
        "x": ("batch", 4),
        "shift": ("batch", 3),
        "y": ("batch", 3),
        "total": ("batch",),
        "given": ("batch", 4),  # an input that is returned as it is
        "positive": ("batch", 3),
        "again": ("batch", 3),  # an output that is returned twice
    }
    assert [spec.dtype for spec in traced.graph.outputs] == ["float32", "float32", "float32", "bool", "float32"]
    same_at(traced, tmp_path, {"x": floats(5, 4), "shift": floats(5, 3)})


def test_an_example_of_batch_1_leaves_the_batch_free(lstm: Traced, tmp_path: Path) -> None:
    """torch's exporters declare LSTM outputs as they were in the example."""
    assert shapes(lstm.graph) == {"x": ("batch", "time", 8), "states": ("batch", "time", 4), "last": (1, "batch", 16)}
    assert lstm.parity is not None
    assert lstm.parity.sizes == {"batch": (1, 2, 3, 4, 8), "time": (3, 6, 8)}
    same_at(lstm, tmp_path, {"x": floats(3, 11, 8)}, {"x": floats(1, 2, 8)})


def test_two_free_axes_of_two_inputs(attention: Traced, tmp_path: Path) -> None:
    assert shapes(attention.graph) == {"x": ("batch", "time", 16), "mask": ("batch", "time"), "states": ("batch", "time", 16)}
    mask = np.ones((3, 11), bool)
    mask[:, 8:] = False
    same_at(attention, tmp_path, {"x": floats(3, 11, 16), "mask": mask})


@pytest.mark.parametrize("module", [OnTheSign, UntilLarge])
def test_flow_that_depends_on_data_takes_another_route(module: type[Linear], tmp_path: Path) -> None:
    traced = trace(module().eval(), {"x": floats(3, 4)}, BATCH, ["y"])
    assert traced.route == "torchscript"
    assert list(traced.failed_routes) == ["torch.export", "torch.export strict"]
    assert all("data-dependent" in reason.lower() for reason in traced.failed_routes.values())
    assert not any("\n" in reason for reason in traced.failed_routes.values())
    same_at(traced, tmp_path, {"x": np.full((2, 4), 1.0, np.float32)}, {"x": np.full((2, 4), -1.0, np.float32)})


@pytest.mark.parametrize("batch", [3, 4])
def test_a_branch_on_a_size_is_kept_or_refused(batch: int, tmp_path: Path) -> None:
    """Whatever the example's batch, the graph must do the odd thing at 4 and only there."""
    traced = trace(OddAtFour().eval(), {"x": floats(batch, 4)}, BATCH, ["y"])
    same_at(traced, tmp_path, *({"x": floats(size, 4)} for size in (1, 3, 4, 5)))


@pytest.mark.parametrize("module", [Drawn, Counting])
def test_random_numbers_and_state_do_not_pass(module: type[Linear]) -> None:
    with pytest.raises(ParityError, match=rf"{module.__name__} at .*output 'y' differs by .*random numbers or state in forward"):
        trace(module().eval(), {"x": floats(3, 4)}, BATCH, ["y"])


def test_parity_can_be_left_out() -> None:
    traced = trace(Counting().eval(), {"x": floats(3, 4)}, BATCH, ["y"], parity=False)
    assert traced.parity is None
    assert traced.route == "torch.export"


def test_a_module_that_takes_even_lengths_only(tmp_path: Path) -> None:
    traced = trace(Halving().eval(), {"x": floats(2, 1, 16)}, {"x": {0: "batch", 2: "time"}}, ["y"])
    assert shapes(traced.graph)["y"] == ("batch", 1, "time")
    same_at(traced, tmp_path, {"x": floats(3, 1, 24)})


def test_half_precision_has_its_own_tolerance(tmp_path: Path) -> None:
    traced = trace(HalfPrecision().eval(), {"x": floats(2, 3, 8, 8).astype(np.float16)}, BATCH, ["y"])
    assert [spec.dtype for spec in (*traced.graph.inputs, *traced.graph.outputs)] == ["float16", "float16"]


def test_a_weight_may_be_called_like_an_output(tmp_path: Path) -> None:
    traced = trace(Named().eval(), {"x": floats(2, 4)}, BATCH, ["scores"])
    assert traced.route == "torch.export"
    same_at(traced, tmp_path, {"x": floats(5, 4)})


def test_an_optional_parameter_may_be_left_out(tmp_path: Path) -> None:
    traced = trace(Gapped().eval(), {"x": floats(2, 4), "shift": floats(2, 3)}, {**BATCH, "shift": {0: "batch"}}, ["y"])
    assert [spec.name for spec in traced.graph.inputs] == ["x", "shift"]
    same_at(traced, tmp_path, {"x": floats(5, 4), "shift": floats(5, 3)})


def test_an_axis_that_follows_the_values_is_named_after_its_output() -> None:
    traced = trace(Found().eval(), {"x": floats(4, 4)}, BATCH, ["places"])
    assert shapes(traced.graph)["places"] == ("places_0", 2)
    assert traced.graph.outputs[0].dtype == "int64"


def test_outputs_have_names_where_none_are_given() -> None:
    traced = trace(Nested().eval(), {"x": floats(2, 4), "shift": floats(2, 3)})
    assert [spec.name for spec in traced.graph.outputs] == ["output", *(f"output_{index}" for index in range(1, 5))]
    assert shapes(traced.graph)["x"] == (2, 4)


@pytest.mark.parametrize("module", [Nested, OnTheSign, Drawn])
def test_exporters_print_nothing(module: Callable[[], nn.Module], capfd: pytest.CaptureFixture[str]) -> None:
    example = {"x": floats(3, 4), "shift": floats(3, 3)} if module is Nested else {"x": floats(3, 4)}
    with contextlib.suppress(ParityError):
        trace(module().eval(), example, BATCH if module is not Nested else {})
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
