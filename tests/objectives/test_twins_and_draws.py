"""Mistakes that look like methods are told from them by the gradient; estimates from draws are where enumeration says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from preceptor_student import objectives, term_loss
from preceptor_student.objectives.kinds import Advantage, every_row
from tests.objectives.test_policy_gradients import JUDGED, expected, k1_term, reward
from tests.objectives.world import Rollout, gradient, groups, loss_of, recipe, singles, world

DRAWS = 20_000
HERE = world(60)


def depends_on_the_teacher(term) -> bool:
    other = world(60)
    other.teachers["tutor"].copy_(world(61).teachers["tutor"])
    return float((expected(HERE, term) - expected(other, term)).abs().max()) > 1e-3


def teaches(term) -> bool:
    return float(expected(HERE, term).abs().max()) > 1e-3


def twin(monkeypatch, per_row):
    """k1, replaced by a mistake."""
    monkeypatch.setitem(objectives.ADVANTAGES, "k1", Advantage(every_row, per_row))
    assert term_loss.ADVANTAGES is objectives.ADVANTAGES


def test_the_real_one_depends_on_the_teacher_and_teaches():
    assert depends_on_the_teacher(k1_term())
    assert teaches(k1_term())


def test_a_teacher_independent_twin_is_caught(monkeypatch):
    twin(monkeypatch, lambda rows, _: -rows.student_sampled_n().detach())
    assert not depends_on_the_teacher(k1_term())


def test_an_action_independent_twin_is_caught(monkeypatch):
    """Whatever the token, the same number: the expected gradient is zero."""
    twin(monkeypatch, lambda rows, _: rows.student.observed.entropy_n)
    assert not teaches(k1_term())


def test_a_zero_filled_twin_is_caught(monkeypatch):
    """A missing score read as log-probability zero: "the teacher is certain". The real one leaves the row out."""
    holes = world(60, missing=frozenset({("tutor", 0), ("tutor", 1), ("tutor", 2)}))
    assert expected(holes, k1_term()).abs().max() == 0
    scores = objectives.SIGNALS["sampled"]

    def filled(columns, params):
        sampled = np.nan_to_num(columns.sampled_r, nan=0.0)
        return scores(type(columns)(np.ones_like(columns.ok_r), columns.targets_r, sampled_r=sampled), params)

    monkeypatch.setitem(objectives.SIGNALS, "sampled", filled)
    assert expected(holes, k1_term()).abs().max() > 1e-2


def test_a_renormalised_twin_is_caught():
    """The teacher's top tokens scaled to sum to one: even where both sides agree there is a gradient."""
    same = world(62)
    same.teachers["tutor"].copy_(same.student.detach())
    rows = same.rows(same.student, (0, 1, 2))
    teacher = rows.detach()
    top = teacher.topk(2, dim=1).indices
    inside = teacher.gather(1, top)
    renormalised = (rows.gather(1, top).exp() * (rows.gather(1, top) - (inside - inside.logsumexp(1, keepdim=True)))).sum()
    support = {"op": "support", "params": {"teacher_topk": 2, "sampled": False}}
    term = {"teacher": "tutor", "signal": support, "objective": "reverse_kl"}
    assert gradient(same, loss_of(same, recipe(term), [Rollout((0, 1, 2))])).abs().max() < 1e-12
    assert gradient(same, renormalised).abs().max() > 1e-2


# ---------------------------------------------------------------- draws

BARE = {"op": "support", "params": {"teacher_topk": 1, "sampled": False}}
SAMPLED = {
    "k1": (world(63), k1_term(), singles),
    "k1 to go": (world(63), k1_term("reward_to_go"), singles),
    "k1, centred": (world(63), k1_term({"op": "kl_baseline", "teacher": "twin", "signal": BARE}), singles),
    "stale draws, corrected": (
        world(63, behaviour=world(64).student.detach()),
        k1_term(token_weights={"op": "truncated_ratio", "params": {"cap": 1e6}}),
        singles,
    ),
    "rewards against the others": (
        world(65, length=2),
        JUDGED | {"objective": "policy_gradient", "advantage": {"op": "group_relative", "params": {"baseline": "others"}}},
        lambda here: groups(here, reward),
    ),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_the_mean_of_draws_is_within_four_standard_errors_of_the_enumerated_one(name):
    here, term, draws = SAMPLED[name]
    compiled = recipe(term)
    each = [(gradient(here, loss_of(here, compiled, drawn)), probability) for drawn, probability in draws(here)]
    gradients = torch.stack([one for one, _ in each]).flatten(1)
    probabilities = np.array([probability for _, probability in each])
    counts = np.random.default_rng(7).multinomial(DRAWS, probabilities / probabilities.sum())
    share = torch.from_numpy(counts / DRAWS)[:, None]
    mean = (share * gradients).sum(0)
    error = ((share * gradients**2).sum(0) - mean**2).clamp_min(0).sqrt() / DRAWS**0.5
    exact = expected(here, term, draws).flatten()
    moving = gradients.abs().amax(0) > 0
    assert ((mean - exact).abs()[moving] <= 4 * error[moving] + 1e-12).all()
    assert (exact.abs() > 4 * error).any(), "the draws could not tell this gradient from zero"
