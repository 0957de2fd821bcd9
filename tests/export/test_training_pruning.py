"""Pruning: what is removed really goes, and what is left computes what the module did with those channels silenced."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edgekit_export import prune, trace
from edgekit_export.training.captured import capture
from edgekit_export.training.channel_flow import follow
from edgekit_export.training.pruning import silence_channels
from edgekit_runtime.errors import CompressionError
from tests.export.training_modules import Chain, Residual, Transformer, image, sequence

BATCH = {"image": {0: "batch"}}


def built(kind, *arguments):
    """A module in eval mode whose normalizations have statistics of their own."""
    torch.manual_seed(1)
    module = kind(*arguments).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.3, 0.3)
            part.running_var.uniform_(0.5, 2.0)
            part.weight.data.uniform_(0.5, 1.5)
    return module


def groups_of(module, example, dynamic=None):
    return {channel.group for channel in follow(capture(module, example, dynamic)).channels()}


@pytest.mark.parametrize(
    ("keep", "importance", "multiple"), [(0.4, "l1", 1), (0.55, "l2", 4), (0.7, "batchnorm", 1), (0.85, "l2", 8)]
)
def test_the_narrower_module_computes_what_the_silenced_one_does(keep, importance, multiple):
    module = built(Residual)
    found = prune(module, image(), BATCH, keep=keep, importance=importance, multiple=multiple)
    x = torch.from_numpy(image(batch=5, seed=7)["image"])
    with torch.no_grad():
        torch.testing.assert_close(found.module(x), silence_channels(module, found.removed)(x), rtol=1e-4, atol=1e-5)
    assert found.multiply_adds <= keep * found.multiply_adds_before
    assert type(found.module) is Residual


def test_residual_and_depthwise_channels_go_together():
    groups = groups_of(built(Residual), image(), BATCH)
    stem = next(group for group in groups if ("stem.0.weight", 0) in group)
    names = {name for name, _ in stem}
    # The residual sum ties the stem to the projection; the depthwise filters of the block are tied to what widens.
    assert {"stem.0.weight", "stem.1.running_mean", "block.project.0.weight", "block.widen.0.weight", "head.weight"} <= names
    widened = next(group for group in groups if ("block.widen.0.weight", 0) in group)
    assert {("block.depthwise.0.weight", 0), ("block.project.0.weight", 1)} <= set(widened)
    assert not any(("head.weight", 0) in group for group in groups)  # the classes stay


def test_sizes_beside_the_weights_follow():
    found = prune(built(Residual), image(), BATCH, keep=0.5, multiple=4)
    for part in found.module.modules():
        if isinstance(part, nn.Conv2d):
            assert part.weight.shape[:2] == (part.out_channels, part.in_channels // part.groups)
        if isinstance(part, nn.BatchNorm2d):
            assert part.num_features == len(part.running_mean) == len(part.weight)
        if isinstance(part, nn.Linear):
            assert part.weight.shape == (part.out_features, part.in_features)
    assert all(kept % 4 == 0 and kept < before for kept, before in found.kept.values())
    again = follow(capture(found.module, image(), BATCH))
    assert again.multiply_adds() == found.multiply_adds


def test_flattened_positions_go_with_their_channel():
    module = built(Chain)
    found = prune(module, image(), BATCH, keep=0.6, multiple=1)
    (kept, before) = found.kept["second.weight"]
    assert kept < before
    assert found.module.head.in_features == kept * 36


def test_multiply_adds_of_known_layers():
    cells = follow(capture(built(Chain), image(batch=3), BATCH))
    # 3x3 convolutions on 12x12 and 6x6, then a Linear.
    assert cells.multiply_adds() == 12 * 12 * 9 * 3 * 8 + 6 * 6 * 9 * 8 * 16 + 16 * 36 * 5


def test_a_transformer_loses_only_the_middle_of_its_mlp():
    module = built(Transformer)
    groups = groups_of(module, sequence())
    assert groups == {(("mlp.0.bias", 0), ("mlp.0.weight", 0), ("mlp.2.weight", 1))}
    found = prune(module, sequence(), keep=0.8)
    assert set(found.kept) == {"mlp.0.weight"}


def test_the_module_is_left_as_it_was():
    module = built(Residual).train()
    before = copy.deepcopy(module.state_dict())
    prune(module, image(), BATCH, keep=0.5, multiple=4)
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_was_pruned_can_be_trained_and_exported():
    module = prune(built(Residual), image(), BATCH, keep=0.5, multiple=4).module.train()
    module(torch.from_numpy(image(batch=4)["image"])).square().mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    trace(module.eval(), image(), BATCH)


def test_taylor_removes_what_the_loss_does_not_feel():
    module = built(Chain)
    with torch.no_grad():  # readers that ignore all but two channels of the first layer
        module.second.weight[:, 2:] *= 1e-6
    x = torch.from_numpy(image(batch=8, seed=3)["image"])
    losses = (module(part).logsumexp(1).mean() for part in x.split(4))
    found = prune(module, image(), BATCH, keep=0.7, importance="taylor", losses=losses, multiple=1)
    gone = {part.slices["first.weight", 0][0] for part in found.removed if ("first.weight", 0) in part.slices}
    assert gone
    assert not gone & {0, 1}


def test_shared_weights_are_cut_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)
            self.again = self.second

        def forward(self, x):
            return self.head(self.again(self.second(self.first(x).relu()).relu()).relu())

    found = prune(built(Shared), {"x": np.ones((2, 6), np.float32)}, keep=0.6, multiple=1)
    assert found.module.again.weight is found.module.second.weight


class TestRefusals:
    """What cannot be pruned, and why."""

    def test_nothing_between_two_weights(self):
        with pytest.raises(CompressionError, match="no channel can be removed: each reaches an output"):
            prune(built(nn.Linear, 4, 4), {"input": np.ones((2, 4), np.float32)}, keep=0.5)

    def test_more_than_there_is(self):
        with pytest.raises(CompressionError, match=r"keep=0.05 cannot be met: .* of the multiply-adds stay"):
            prune(built(Transformer), sequence(), keep=0.05)

    @pytest.mark.parametrize("keep", [0.0, 1.0, -1.0, 2.0])
    def test_shares_that_are_none(self, keep):
        with pytest.raises(CompressionError, match=f"keep={keep}, expected a share"):
            prune(built(Chain), image(), keep=keep)

    def test_unknown_importance(self):
        with pytest.raises(CompressionError, match="importance 'magic': there are l1, l2, batchnorm, taylor"):
            prune(built(Chain), image(), keep=0.5, importance="magic")

    def test_taylor_without_losses(self):
        with pytest.raises(CompressionError, match="'taylor' needs losses"):
            prune(built(Chain), image(), keep=0.5, importance="taylor")

    def test_unknown_submodule(self):
        with pytest.raises(CompressionError, match="skip names 'third'; it has no such submodule"):
            prune(built(Chain), image(), keep=0.5, skip=["third"])

    def test_sizes_written_into_the_code(self):
        class Fixed(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

            def forward(self, x):
                hidden = self.first(x)
                if hidden.shape[1] != 8:
                    raise ValueError("eight, please")
                return self.second(hidden)

        with pytest.raises(CompressionError, match=r"its forward\(\) fails: .*eight, please.*take sizes from tensors' shapes"):
            prune(built(Fixed), {"x": np.ones((2, 4), np.float32)}, keep=0.5, multiple=1)
