"""Distillation: the loss is zero where the student answers as the teacher does, and only the student learns."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from edgekit_export import Distillation
from edgekit_export.training.distillation import soft_loss
from edgekit_runtime.errors import CompressionError


def network(width=8):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


@pytest.fixture
def pair():
    torch.manual_seed(0)
    x = torch.randn(16, 1, 4, 4)
    teacher, student = network(), network(width=4)
    for module in (teacher, student):
        module(x)
    return student, teacher, x, torch.arange(16) % 4


@given(st.floats(0.5, 20), st.integers(0, 10_000))
def test_soft_loss_is_zero_for_equal_answers_and_positive_otherwise(temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(2, 6, 5, generator=generator).double()
    assert soft_loss(one, one + 3.0, temperature).item() == pytest.approx(0.0, abs=1e-9)  # a shift changes no answer
    assert soft_loss(one, other, temperature).item() > 0


def test_gradients_keep_their_size_at_any_temperature():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 64, 10, generator=generator).double()
    sizes = []
    for temperature in (5.0, 10.0, 40.0):
        given_ = student.clone().requires_grad_()
        soft_loss(given_, teacher, temperature).backward()
        sizes.append(given_.grad.norm().item())
    # In the limit of high temperatures they are those of the squared distance of centred logits (Hinton et al., section 2.1).
    centred = (student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)) / 10 / 64
    assert sizes[-1] == pytest.approx(centred.norm().item(), rel=0.05)
    assert max(sizes) < 1.5 * min(sizes)


def test_labels_count_by_their_share(pair):
    student, teacher, x, labels = pair
    student.eval()
    soft = Distillation(student, teacher, hard=0.0)(x, labels)
    mixed = Distillation(student, teacher, hard=0.3)(x, labels)
    assert mixed.item() == pytest.approx(0.7 * soft.item() + 0.3 * functional.cross_entropy(student(x), labels).item(), rel=1e-5)
    assert Distillation(student, teacher, hard=0.3)(x).item() == pytest.approx(soft.item())


def test_only_the_student_learns(pair):
    student, teacher, x, labels = pair
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    loss = Distillation(student, teacher, features={"0": "0"})
    loss(x, labels).backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert teacher.training  # what was given is left as it is
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not list(loss.parameters())


def test_a_student_comes_to_answer_as_its_teacher(pair):
    student, teacher, x, _ = pair
    teacher.eval()
    loss = Distillation(student, teacher, temperature=2.0, hard=0.0)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        value = loss(x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.1 * losses[0]
    assert (student(x).argmax(1) == teacher(x).argmax(1)).float().mean() > 0.9


def test_features_of_another_width_are_compared(pair):
    student, teacher, x, _ = pair
    plain, with_features = Distillation(student, teacher)(x), Distillation(student, teacher, features={"2": "2"})(x)
    assert with_features > plain
    same = Distillation(teacher, teacher, features={"2": "2"})
    teacher.eval()
    assert same(x).item() == pytest.approx(0.0, abs=1e-6)


def test_inputs_by_name_and_logits_by_choice(pair):
    _, teacher, x, _ = pair

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = copy.deepcopy(teacher)

        def forward(self, image, scale):
            return {"extra": image, "logits": self.inner(image) * scale}

    loss = Distillation(Named().eval(), Named().eval(), logits=lambda output: output["logits"])
    assert loss({"image": x, "scale": torch.tensor(2.0)}).item() == pytest.approx(0.0, abs=1e-6)


class TestRefusals:
    """Settings that make no sense, and modules that do not fit each other."""

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"temperature": 0.0}, "temperature=0.0, expected a number above 0"),
            ({"hard": 1.5}, "hard=1.5, expected a share"),
            ({"features": {"9": "0"}}, "features name '9'; the student has no such submodule"),
            ({"features": {"0": "9"}}, "features name '9'; the teacher has no such submodule"),
        ],
    )
    def test_settings(self, pair, wrong, message):
        with pytest.raises(CompressionError, match=message):
            Distillation(*pair[:2], **wrong)

    def test_other_classes(self, pair):
        student, _, x, _ = pair
        other = network()
        other[4] = nn.LazyLinear(7)
        other(x)
        with pytest.raises(CompressionError, match=r"student's logits are \[16, 4\] and the teacher's \[16, 7\]"):
            Distillation(student, other)(x)

    def test_features_that_are_no_images(self, pair):
        student, teacher, x, _ = pair
        with pytest.raises(CompressionError, match="feature '4' is"):
            Distillation(student, teacher, features={"4": "4"})(x)
