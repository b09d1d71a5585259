"""The loss, its gradient and one update, against closed forms and autograd in float64; and what a discriminator can learn."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from preceptor.errors import TooLarge
from preceptor_serving.models.load import load_causal_lm
from preceptor_teacher.discriminator.groups import Answer, AskedGroup, ScoredGroup
from preceptor_teacher.discriminator.learning import MOST_NORM, Trainer, pair_losses, weighed
from preceptor_teacher.discriminator.scorer import Scorer
from tests.unit.preceptor_teacher.discriminator.conftest import RATE

PROMPT = "478+356"
GROUPS = {"ab": ["cd", "e", "cd"], "8+6+0=14 834": ["834", "", "7+5+1=13"]}  # the teacher's text: responses, some equal


def scored_by(trainer: Trainer, teacher: str, responses: Sequence[str], prompt: str = PROMPT) -> ScoredGroup:
    asked = AskedGroup.of("g", prompt, "", teacher, responses)
    first, *others = trainer.score(prompt, [teacher, *asked.texts])
    return ScoredGroup(asked, Answer(first, tuple(others), 0))


def with_head(trainer: Trainer) -> Trainer:
    """With a head that is not zero, so that the backbone has a gradient."""
    weights = trainer.weights()
    torch.manual_seed(3)
    weights["head"] = torch.randn_like(weights["head"])
    trainer.restore(weights, {})
    return trainer


def test_equal_scores_cost_log_two_and_a_gap_of_two_little() -> None:
    losses = pair_losses(torch.tensor(2.0), torch.tensor([2.0, 0.0, 102.0, -200.0]))
    assert losses.tolist() == pytest.approx([0.693147, 0.126928, 100.0, 0.0], abs=1e-6)


def test_every_pair_of_every_group_weighs_the_same() -> None:
    groups = [
        ScoredGroup(AskedGroup.of("a", "p", "", "t", ["x", "x", "y"]), Answer(1.5, (0.5, 2.0), 0)),
        ScoredGroup(AskedGroup.of("b", "p", "", "t", ["z", "t"]), Answer(-1.0, (-1.0, -3.0), 0)),
    ]
    meters, derivatives = weighed(groups)
    gaps = [1.0, 1.0, -0.5, 0.0, 2.0]
    assert meters.loss == pytest.approx(sum(math.log1p(math.exp(-gap)) for gap in gaps) / 5, abs=1e-12)
    assert (meters.accuracy, meters.pairs) == (3.5 / 5, 5)
    assert meters.gap == pytest.approx(0.7)
    away = [1 / (1 + math.exp(gap)) / 5 for gap in gaps]  # by which a response's score raises the loss
    assert derivatives[0] == pytest.approx([-sum(away[:3]), away[0] + away[1], away[2]], abs=1e-12)
    assert derivatives[1] == pytest.approx([-sum(away[3:]), away[3], away[4]], abs=1e-12)


def test_a_new_one_gives_every_text_zero(new_trainer: Callable[[], Trainer]) -> None:
    assert new_trainer().score(PROMPT, ["834", "", "a much longer text", "x"]) == [0.0] * 4


class Oracle:
    """The same model in float64, each text by itself, and all pairs in one graph."""

    def __init__(self, base: Path, trainer: Trainer) -> None:
        self.ids = Scorer(base, "cpu", None).ids
        self.backbone = load_causal_lm(base, "f32", "cpu").base_model.double().requires_grad_(requires_grad=True)
        self.head = trainer.weights()["head"].double().clone().requires_grad_()

    def score(self, text: str) -> Tensor:
        ids = torch.tensor([self.ids(PROMPT, text)])
        return self.backbone(input_ids=ids).last_hidden_state[0, -1] @ self.head

    def gradients(self) -> tuple[float, dict[str, Tensor]]:
        pairs = [self.score(teacher) - self.score(one) for teacher, responses in GROUPS.items() for one in responses]
        loss = -torch.stack([torch.sigmoid(gap).log() for gap in pairs]).mean()
        loss.backward()
        named = [*self.backbone.named_parameters(prefix="backbone"), ("head", self.head)]
        found = {name: one.grad for name, one in named if one.grad is not None}
        norm = float(torch.stack([one.norm() for one in found.values()]).norm())
        return float(loss.detach()), {name: one * min(1.0, MOST_NORM / norm) for name, one in found.items()}


def test_an_update_is_autograds_step_in_float64(base: Path, new_trainer: Callable[[], Trainer]) -> None:
    """Head and backbone: clipped gradients, and where AdamW's first step puts every weight."""
    trainer = with_head(new_trainer())
    before = {name: one.double().clone() for name, one in trainer.weights().items()}
    loss, expected = Oracle(base, trainer).gradients()
    meters = trainer.update([scored_by(trainer, teacher, responses) for teacher, responses in GROUPS.items()])
    assert meters is not None
    assert meters.loss == pytest.approx(loss, abs=1e-5)
    largest = max(float(one.abs().max()) for one in expected.values())
    for name, one in trainer._scorer.named().items():
        assert one.grad is not None
        assert torch.allclose(one.grad.double(), expected[name], atol=1e-5 * largest, rtol=1e-3), name
        moved = one.detach().double() - before[name]
        sure = expected[name].abs() > 1e-3 * largest
        assert torch.allclose(moved[sure], -RATE * expected[name][sure].sign(), atol=2e-2 * RATE), name
        assert bool((moved.abs() <= 1.01 * RATE).all()), name
    assert max(float(one.abs().max()) for name, one in expected.items() if name != "head") > 1e-3 * largest


def test_texts_read_together_have_the_scores_that_they_have_alone(new_trainer: Callable[[], Trainer]) -> None:
    trainer = with_head(new_trainer())
    texts = ["834", "", "a much longer text than the others", "x", "<eos>"]
    assert trainer.score(PROMPT, texts) == pytest.approx([trainer.score(PROMPT, [one])[0] for one in texts], abs=1e-5)


def test_a_gradient_that_is_not_finite_moves_nothing(new_trainer: Callable[[], Trainer]) -> None:
    trainer = new_trainer()
    before = {name: one.clone() for name, one in trainer.weights().items()}
    group = scored_by(trainer, "ab", ["cd"])
    assert trainer.update([ScoredGroup(group.asked, Answer(math.nan, (0.0,), 0))]) is None
    assert all(torch.equal(one, before[name]) for name, one in trainer.weights().items())


def test_a_text_that_is_too_long_is_refused(base: Path) -> None:
    with pytest.raises(TooLarge) as caught:
        Scorer(base, "cpu", 16).ids(PROMPT, "x" * 40)
    assert caught.value.field == "response"


def accuracy_after(trainer: Trainer, updates: int, fresh: int, teacher: Callable[[], str], student: Callable[[], str]) -> float:
    """On pairs that it has not learned from."""
    for _ in range(updates):
        groups = [scored_by(trainer, teacher(), [student() for _ in range(4)]) for _ in range(4)]
        assert trainer.update(groups) is not None
    return weighed([scored_by(trainer, teacher(), [student()]) for _ in range(fresh)])[0].accuracy


def test_texts_that_differ_are_told_apart(new_trainer: Callable[[], Trainer]) -> None:
    dice = random.Random(1)
    word = lambda letters: "".join(dice.choices(letters, k=4))  # noqa: E731
    assert accuracy_after(new_trainer(), 6, 30, lambda: word("abc"), lambda: word("cde")) >= 0.9


@pytest.mark.slow
def test_a_student_that_writes_like_its_teacher_is_told_apart_by_chance(new_trainer: Callable[[], Trainer]) -> None:
    """Both draw from one distribution: half of fresh pairs, within three standard errors."""
    dice, pairs = random.Random(2), 600
    word = lambda: "".join(dice.choices("abcde", k=4))  # noqa: E731
    found = accuracy_after(new_trainer(), 60, pairs, word, word)
    assert abs(found - 0.5) <= 3 * math.sqrt(0.25 / pairs)
