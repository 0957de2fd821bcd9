"""Self-attention as one operator is the same function however it was spelled, and lookalikes stay."""

import importlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit_export import FLAVOURS, DynamicInt8, Graph, optimize_float, prepare, quantize_dynamic, trace
from edgekit_export.agreement import SAME_DB, agreement_db
from edgekit_export.passes import fuse_self_attention

Feed = dict[str, np.ndarray]
Core = Callable[[Tensor, Tensor, Tensor], Tensor]
TOKENS, WIDTH, HEADS = 6, 16, 2
SIZE = WIDTH // HEADS


def tokens(batch: int = 2, length: int = TOKENS) -> Feed:
    return {"x": np.random.default_rng(batch).standard_normal((batch, length, WIDTH)).astype(np.float32)}


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2) / SIZE**0.5).softmax(-1) @ value


def sharper(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2) * 0.9).softmax(-1) @ value


def before_product(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return ((query * 0.5) @ key.transpose(-1, -2)).softmax(-1) @ value


def together(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value)


def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-1, -2)
    return (scores + torch.ones(TOKENS, TOKENS).triu(1) * -1e4).softmax(-1) @ value


def over_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2)).softmax(1) @ value


class Attention(nn.Module):
    """(batch, tokens, width) → the same, with projections apart or as one."""

    def __init__(self, core: Core, *, packed: bool = False, bias: bool = True, other: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.core, self.other = core, other
        widths = [3 * WIDTH] if packed else [WIDTH] * 3
        self.projections = nn.ModuleList(nn.Linear(WIDTH, width, bias=bias) for width in widths)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, length = x.shape[:2]
        if len(self.projections) == 1:
            parts = self.projections[0](x).reshape(batch, length, 3, HEADS, SIZE).permute(2, 0, 3, 1, 4)
            query, key, value = parts[0], parts[1], parts[2]
        else:
            sources = [x, x.relu(), x] if self.other else [x] * 3
            query, key, value = (
                project(source).reshape(batch, length, HEADS, SIZE).transpose(1, 2)
                for project, source in zip(self.projections, sources, strict=True)
            )
        result: Tensor = self.out(self.core(query, key, value).transpose(1, 2).reshape(batch, length, WIDTH))
        return result


def prepared(module: nn.Module, axes: dict[int, str] | None = None) -> Graph:
    return prepare(trace(module.eval(), tokens(), {"x": axes or {0: "batch"}}, ["y"]).graph, [tokens()])


@pytest.mark.parametrize(
    "module",
    [
        Attention(plain),
        Attention(sharper, packed=True),
        Attention(before_product, bias=False),
        Attention(together),
        Attention(together, packed=True, bias=False),
    ],
    ids=["divided", "another scale, packed", "scaled query, no bias", "torch's own", "torch's own, packed, no bias"],
)
def test_attention_becomes_one_operator(module: nn.Module) -> None:
    graph = prepared(module)
    after = fuse_self_attention(graph)
    operators = after.operators()
    assert operators["Attention"] == 1
    assert not set(operators) & {"Softmax", "Transpose", "Reshape", "Gather"}
    assert operators["MatMul"] == 1, "the projection behind it alone"
    assert after.changes[-1].detail == "1 attentions"
    feeds = [tokens(batch) for batch in (1, 3)]
    assert agreement_db(graph, after, feeds) > SAME_DB + 40


def test_many_tokens_and_an_unknown_number_of_them_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    free = prepared(Attention(plain), {0: "batch", 1: "tokens"})
    assert fuse_self_attention(free).model is free.model
    module = importlib.import_module("edgekit_export.passes.fuse_self_attention")
    fixed = prepared(Attention(plain))
    for most, count in ((TOKENS, 1), (TOKENS - 1, 0)):
        monkeypatch.setattr(module, "MOST_TOKENS", most)
        assert fuse_self_attention(fixed).operators().get("Attention", 0) == count


@pytest.mark.parametrize(
    "module",
    [Attention(masked), Attention(masked, packed=True), Attention(over_heads), Attention(plain, other=True)],
    ids=["masked", "masked and packed", "softmax over heads", "another sequence"],
)
def test_lookalikes_stay(module: nn.Module) -> None:
    graph = prepared(module)
    assert fuse_self_attention(graph).model is graph.model


def test_float_and_dynamic_models_have_it() -> None:
    graph = prepared(Attention(plain))
    assert optimize_float(graph).operators()["Attention"] == 1
    assert "fuse self-attention" in [change.step for change in optimize_float(graph).changes]
    quantized = quantize_dynamic(graph, DynamicInt8(FLAVOURS["u8s7"]), sample=[tokens()])
    assert quantized.graph.operators()["QAttention"] == 1
    assert agreement_db(graph, quantized.graph, [tokens(3)]) > 25
