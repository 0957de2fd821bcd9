"""The founding models: the article's usage lines, their formulas in plain numpy, clear errors, and export."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgekit.models import (
    AdaptiveEmbedding,
    DynamicAttention,
    ModalEmbeddingLayer,
    MultiHeadDynamicAttention,
    SoraImage,
    UnifiedMultimodalModel,
)

BATCH = {0: torch.export.Dim.DYNAMIC}
few_examples = settings(max_examples=20, deadline=None)


@pytest.fixture(autouse=True)
def _seeded_on_one_thread() -> Iterator[None]:
    """Fix the seed, and use one thread: small tensors gain nothing from more, and lose a lot on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def numpy_linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def numpy_softmax(x: np.ndarray) -> np.ndarray:
    exponents = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


def numpy_sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def numpy_attention(layer: DynamicAttention | MultiHeadDynamicAttention, x: np.ndarray, heads: int) -> np.ndarray:
    """Compute attention head by head, on (positions, hidden_dim), without the output projection."""
    q, k, v = (numpy_linear(projection, x) for projection in (layer.q, layer.k, layer.v))
    slices = np.split(np.arange(x.shape[-1]), heads)
    return np.concatenate([numpy_softmax(q[:, s] @ k[:, s].T / np.sqrt(len(s))) @ v[:, s] for s in slices], axis=-1)


def close(actual: Tensor, expected: np.ndarray | Tensor) -> None:
    wanted = expected if isinstance(expected, np.ndarray) else expected.detach().numpy()
    np.testing.assert_allclose(actual.detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


class TestUsageLines:
    """The calls of the founding article, as it printed them."""

    def test_dynamic_attention(self) -> None:
        assert DynamicAttention(hidden_dim=128)(torch.randn(64, 128)).shape == (64, 128)

    def test_adaptive_embedding(self) -> None:
        mod_type = torch.tensor([0.1, 0.5, 0.9])
        assert AdaptiveEmbedding(input_dim=128, hidden_dim=256)(torch.randn(64, 128), mod_type).shape == (64, 256)

    def test_modal_embedding(self) -> None:
        layer = ModalEmbeddingLayer(input_dim=128, hidden_dim=256)
        assert layer(torch.randn(64, 128), torch.tensor([0.3, 0.7])).shape == (64, 256)

    def test_unified_multimodal(self) -> None:
        mod_type = torch.tensor([0.1, 0.5, 0.9])
        assert UnifiedMultimodalModel(hidden_dim=128, mod_type=mod_type)(torch.randn(64, 128)).shape == (64, 128)


class TestFormulas:
    """Each class against the same formula in numpy."""

    def test_dynamic_attention_scales_by_the_whole_width(self) -> None:
        layer, x = DynamicAttention(16), 3 * torch.randn(5, 16)
        close(layer(x), numpy_attention(layer, x.numpy(), heads=1))

    def test_multi_head_attention_scales_by_the_head_and_projects(self) -> None:
        layer, x = MultiHeadDynamicAttention(16, heads=4), 3 * torch.randn(5, 16)
        close(layer(x), numpy_linear(layer.out, numpy_attention(layer, x.numpy(), heads=4)))

    def test_adaptive_embedding(self) -> None:
        layer, x, mod_type = AdaptiveEmbedding(6, 8, modality_dim=3), torch.randn(5, 6), torch.randn(3)
        expected = numpy_linear(layer.embed, x.numpy()) * numpy_sigmoid(numpy_linear(layer.gate, mod_type.numpy()))
        close(layer(x, mod_type), expected)

    def test_modal_embedding(self) -> None:
        layer, x, mod_type = ModalEmbeddingLayer(6, 8, modality_dim=2), torch.randn(5, 6), torch.randn(2)
        nn.init.normal_(layer.gate_norm.weight)
        nn.init.normal_(layer.gate_norm.bias)
        raw = numpy_linear(layer.gate, mod_type.numpy())
        normalized = (raw - raw.mean()) / np.sqrt(raw.var() + layer.gate_norm.eps)
        scaled = normalized * layer.gate_norm.weight.detach().numpy() + layer.gate_norm.bias.detach().numpy()
        close(layer(x, mod_type), numpy_linear(layer.embed, x.numpy()) * numpy_sigmoid(scaled))

    def test_unified_model_embeds_then_attends(self) -> None:
        mod_type = torch.randn(3)
        model, x = UnifiedMultimodalModel(8, mod_type, input_dim=6), torch.randn(5, 6)
        close(model(x), model.attention(model.embedding(x, mod_type)))

    def test_one_head_with_an_identity_projection_is_dynamic_attention(self) -> None:
        one, many = DynamicAttention(8), MultiHeadDynamicAttention(8, heads=1)
        many.load_state_dict({**one.state_dict(), "out.weight": torch.eye(8), "out.bias": torch.zeros(8)})
        x = torch.randn(2, 5, 8)
        close(many(x), one(x))


class TestAttentionProperties:
    """What holds for any input."""

    @pytest.mark.parametrize("layer", [DynamicAttention(8), MultiHeadDynamicAttention(8, heads=2)], ids=type)
    @few_examples
    @given(positions=st.permutations(range(6)), seed=st.integers(0, 2**16))
    def test_permuting_positions_permutes_the_output(self, layer: nn.Module, positions: list[int], seed: int) -> None:
        x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(seed))
        close(layer(x[:, positions]), layer(x)[:, positions])

    @few_examples
    @given(leading=st.lists(st.integers(1, 3), max_size=3), positions=st.integers(1, 9))
    def test_leading_axes_are_independent_batches(self, leading: list[int], positions: int) -> None:
        x = torch.randn(*leading, positions, 8)
        for layer in (DynamicAttention(8), MultiHeadDynamicAttention(8, heads=2)):
            flat = torch.stack([layer(one) for one in x.reshape(-1, positions, 8)])
            close(layer(x), flat.reshape(x.shape))

    def test_equal_keys_give_the_mean_of_the_values(self) -> None:
        layer, x = DynamicAttention(8), torch.randn(5, 8)
        nn.init.zeros_(layer.k.weight)
        close(layer(x), layer.v(x).mean(dim=0).expand(5, 8))

    def test_large_scores_stay_finite(self) -> None:
        assert torch.isfinite(DynamicAttention(8)(1e6 * torch.randn(5, 8))).all()


EMBEDDINGS = [AdaptiveEmbedding, ModalEmbeddingLayer]


@pytest.mark.parametrize("embedding", EMBEDDINGS)
class TestGates:
    """The two gated embeddings."""

    @few_examples
    @given(modality_dim=st.integers(1, 9), scale=st.floats(0, 3), seed=st.integers(0, 2**16))
    def test_gates_lie_between_zero_and_one(self, embedding: type[nn.Module], modality_dim: int, scale: float, seed: int) -> None:
        torch.manual_seed(seed)
        layer = embedding(6, 8, modality_dim)
        nn.init.zeros_(layer.embed.weight)
        nn.init.ones_(layer.embed.bias)  # the embedding is 1, so that the output is the gate
        gates = layer(torch.randn(4, 6), scale * torch.randn(modality_dim))
        assert ((gates > 0) & (gates < 1)).all()

    def test_bound_at_the_first_call_is_bound_by_name(self, embedding: type[nn.Module]) -> None:
        lazy, bound = embedding(6, 8), embedding(6, 8, modality_dim=3)
        x, mod_type = torch.randn(4, 6), torch.randn(3)
        lazy(x, mod_type)
        assert type(lazy.gate) is nn.Linear
        lazy.load_state_dict(bound.state_dict())
        assert torch.equal(lazy(x, mod_type), bound(x, mod_type))

    def test_loading_weights_binds_the_gate(self, embedding: type[nn.Module]) -> None:
        lazy, bound = embedding(6, 8), embedding(6, 8, modality_dim=3)
        lazy.load_state_dict(bound.state_dict())
        x, mod_type = torch.randn(4, 6), torch.randn(3)
        with pytest.raises(ValueError, match="with 3 on the last axis"):
            lazy(x, torch.randn(2))
        assert torch.equal(lazy(x, mod_type), bound(x, mod_type))

    def test_a_modality_for_each_example(self, embedding: type[nn.Module]) -> None:
        layer, x, mod_type = embedding(6, 8, 3), torch.randn(4, 5, 6), torch.randn(4, 3)
        each = torch.stack([layer(one, modality) for one, modality in zip(x, mod_type, strict=True)])
        close(layer(x, mod_type[:, None]), each)

    def test_the_gate_learns(self, embedding: type[nn.Module]) -> None:
        layer = embedding(6, 8)
        layer(torch.randn(4, 6), torch.randn(3)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())


def attention(x: object) -> Tensor:
    return DynamicAttention(8)(x)


def adaptive(x: object, mod_type: object) -> Tensor:
    return AdaptiveEmbedding(8, 4, modality_dim=3)(x, mod_type)


def modal(x: object, mod_type: object) -> Tensor:
    return ModalEmbeddingLayer(8, 4, modality_dim=3)(x, mod_type)


def unified(x: object) -> Tensor:
    return UnifiedMultimodalModel(4, torch.ones(3), input_dim=8)(x)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: attention(torch.ones(5, 7)), ValueError, r"DynamicAttention: x .* with 8 on the last .*\(5, 7\)"),
        (lambda: attention(torch.ones(8)), ValueError, r"DynamicAttention: x .*positions, hidden_dim\), got \(8,\)"),
        (lambda: attention(np.ones((5, 8))), TypeError, "DynamicAttention: x must be a torch.Tensor, got ndarray"),
        (lambda: attention(torch.ones(5, 8, dtype=torch.int64)), TypeError, "x must be floating point, got torch.int64"),
        (lambda: DynamicAttention(0), ValueError, "DynamicAttention: hidden_dim must be at least 1, got 0"),
        (lambda: DynamicAttention(8.0), TypeError, "DynamicAttention: hidden_dim must be an integer, got 8.0"),
        (lambda: MultiHeadDynamicAttention(10, 4), ValueError, "hidden_dim=10 does not divide into heads=4"),
        (lambda: MultiHeadDynamicAttention(8, 2)(torch.ones(5, 7)), ValueError, r"MultiHead.* got \(5, 7\)"),
        (lambda: adaptive(torch.ones(5, 7), torch.ones(3)), ValueError, r"AdaptiveEmbedding: x .* with 8 .*\(5, 7\)"),
        (lambda: adaptive(torch.ones(5, 8), torch.ones(2)), ValueError, r"mod_type .* with 3 .*, got \(2,\)"),
        (lambda: adaptive(torch.ones(5, 8), [0.1, 0.5]), TypeError, "mod_type must be a torch.Tensor, got list"),
        (lambda: adaptive(torch.ones(5, 8), torch.tensor(0.5)), ValueError, r"mod_type must have shape .*, got \(\)"),
        (lambda: adaptive(torch.ones(5, 8), torch.ones(4, 3)), ValueError, r"leading axes of mod_type .*\(4, 3\).*\(5, 8\)"),
        (lambda: modal(torch.ones(2, 5, 8), torch.ones(2, 3)), ValueError, r"ModalEmb.* as many as x.*mod_type\[:, None\]"),
        (lambda: modal(torch.ones(5, 8), torch.ones(3, dtype=torch.int32)), TypeError, "mod_type must be floating"),
        (lambda: AdaptiveEmbedding(8, 4)(torch.ones(5, 8), torch.ones(0)), ValueError, r"at least 1 .*, got \(0,\)"),
        (lambda: AdaptiveEmbedding(8, 4, modality_dim=0), ValueError, "modality_dim must be at least 1, got 0"),
        (lambda: ModalEmbeddingLayer(True, 4), TypeError, "input_dim must be an integer, got True"),
        (lambda: unified(torch.ones(5, 7)), ValueError, r"UnifiedMultimodalModel: x .* with 8 .*\(5, 7\)"),
        (lambda: UnifiedMultimodalModel(4, [0.1]), TypeError, "UnifiedMultimodalModel: mod_type must be a torch.Tensor"),
        (lambda: SoraImage(classes=0), ValueError, "SoraImage: classes must be at least 1, got 0"),
        (lambda: SoraImage()(torch.ones(2, 3, 28, 28)), ValueError, r"SoraImage: image .*28, 28\), got \(2, 3, 28, 28\)"),
        (lambda: SoraImage()(torch.ones(1, 28, 28)), ValueError, r"SoraImage: image .*\), got \(1, 28, 28\)"),
        (lambda: SoraImage()(torch.ones(1, 1, 28, 28, dtype=torch.uint8)), TypeError, "image must be floating point"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_answered_in_one_line(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


class TestUnifiedMultimodalModel:
    """Its modality is part of the model."""

    def test_the_modality_is_saved_with_the_weights_but_not_trained(self) -> None:
        model = UnifiedMultimodalModel(8, torch.tensor([0.1, 0.5, 0.9]))
        assert "mod_type" in model.state_dict()
        assert "mod_type" not in dict(model.named_parameters())

    def test_the_modality_is_a_copy(self) -> None:
        mod_type = torch.tensor([0.1, 0.5])
        model = UnifiedMultimodalModel(8, mod_type)
        mod_type.zero_()
        assert model.mod_type.tolist() == pytest.approx([0.1, 0.5])

    def test_the_modality_changes_the_output(self) -> None:
        model, x = UnifiedMultimodalModel(8, torch.zeros(3)), torch.randn(5, 8)
        before = model(x)
        model.mod_type += 1
        assert not torch.allclose(before, model(x))


class TestSoraImage:
    """The image network."""

    @pytest.mark.parametrize("batch", [1, 2, 7])
    def test_an_image_is_judged_alone(self, batch: int) -> None:
        model, image = SoraImage().eval(), torch.randn(batch, 1, 28, 28)
        close(model(image), torch.cat([model(one[None]) for one in image]))

    def test_positions_are_told_apart(self) -> None:
        model, image = SoraImage().eval(), torch.randn(1, 1, 28, 28)
        assert not torch.allclose(model(image), model(image.flip(-1)))

    def test_it_is_small(self) -> None:
        assert 100_000 <= sum(parameter.numel() for parameter in SoraImage().parameters()) <= 300_000

    def test_every_parameter_learns(self) -> None:
        model = SoraImage()
        model(torch.randn(4, 1, 28, 28)).square().sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


EXPORTS = {
    "dynamic-attention": (DynamicAttention(16), (torch.randn(2, 5, 16),), (BATCH,)),
    "multi-head": (MultiHeadDynamicAttention(16, heads=4), (torch.randn(2, 5, 16),), (BATCH,)),
    "adaptive": (AdaptiveEmbedding(6, 8, 3), (torch.randn(2, 6), torch.randn(3)), (BATCH, None)),
    "adaptive-batched": (AdaptiveEmbedding(6, 8, 3), (torch.randn(2, 6), torch.randn(2, 3)), (BATCH, BATCH)),
    "modal": (ModalEmbeddingLayer(6, 8, 3), (torch.randn(2, 6), torch.randn(3)), (BATCH, None)),
    "modal-batched": (ModalEmbeddingLayer(6, 8, 3), (torch.randn(2, 6), torch.randn(2, 3)), (BATCH, BATCH)),
    "unified": (UnifiedMultimodalModel(16, torch.randn(3)), (torch.randn(2, 5, 16),), (BATCH,)),
    "unified-positions": (UnifiedMultimodalModel(16, torch.randn(3)), (torch.randn(5, 16),), (BATCH,)),
    "sora-image": (SoraImage(), (torch.randn(2, 1, 28, 28),), (BATCH,)),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_export_agrees_at_batch_sizes_that_it_was_not_traced_with(name: str) -> None:
    model, inputs, axes = EXPORTS[name]
    model = model.eval()
    exported = torch.export.export(model, inputs, dynamic_shapes=axes).module()
    for batch in (2, 3, 8):
        feeds = [torch.randn(batch, *value.shape[1:]) if axis else value for value, axis in zip(inputs, axes, strict=True)]
        close(exported(*feeds), model(*feeds))
