"""Preferences against the plain losses of whole responses, differentiated by autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import logsigmoid

from tests.objectives.test_policy_gradients import EXACT, JUDGED, SAMPLED
from tests.objectives.world import Rollout, gradient, loss_of, prepared, recipe, world

GRADED = {key: JUDGED[key] for key in ("teacher", "signal")}
BY_REWARD = {"op": "reward_pairs", "params": {}, **GRADED}
GROUP = [
    Rollout((0, 1, 2), rewards={"judge": 1.0}),
    Rollout((2, 2), rewards={"judge": 0.0}),
    Rollout((1, 1, 1), rewards={"judge": 3.0}),
    Rollout((1, 0), group="rollouts/1", rewards={"judge": 0.0}),
    Rollout((0, 0, 0), group="rollouts/1", rewards={"judge": 0.0}),
]
LOG2 = 0.6931471805599453


def term(objective="dpo", pairs=BY_REWARD, **more):
    reference = SAMPLED | {"teacher": "base"} if (objective if isinstance(objective, str) else objective["op"]) == "dpo" else {}
    return {"objective": objective, "pairs": pairs, "normaliser": "pairs", **reference, **more}


def plain(here, pairs, loss):
    return gradient(here, sum(loss(GROUP[high], GROUP[low]) for high, low in pairs) / len(pairs))


def dpo(here, beta):
    def margin(one):
        return here.log_prob(one.tokens) - here.log_prob(one.tokens, here.teachers["base"])

    return lambda high, low: -logsigmoid(beta * (margin(high) - margin(low)))


def odds(here, one):
    p = (here.log_prob(one.tokens) / len(one.tokens)).exp()
    return (p / (1 - p)).log()


LOSSES = {
    "dpo": ({"op": "dpo", "params": {"beta": 0.3}}, lambda here: dpo(here, 0.3)),
    "bradley_terry": (
        {"op": "bradley_terry", "params": {"beta": 0.5, "margin": 0.2}},
        lambda here: lambda a, b: -logsigmoid(0.5 * (here.log_prob(a.tokens) - here.log_prob(b.tokens)) - 0.2),
    ),
    "bradley_terry by means": (
        {"op": "bradley_terry", "params": {"mean": True}},
        lambda here: lambda a, b: -logsigmoid(here.log_prob(a.tokens) / len(a.tokens) - here.log_prob(b.tokens) / len(b.tokens)),
    ),
    "orpo": (
        {"op": "orpo", "params": {"beta": 0.7}},
        lambda here: lambda a, b: -logsigmoid(0.7 * (odds(here, a) - odds(here, b))),
    ),
}
PAIRS = {
    "extremes": ({}, [(2, 1)]),
    "all": ({"take": "all"}, [(0, 1), (2, 0), (2, 1)]),
    "far apart": ({"take": "all", "min_gap": 1.5}, [(2, 0), (2, 1)]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("which", PAIRS)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_the_gradient_is_that_of_the_plain_loss_whatever_the_micro_batches(name, which, size):
    here, (objective, loss) = world(40), LOSSES[name]
    params, pairs = PAIRS[which]
    compiled = recipe(term(objective, BY_REWARD | {"params": params}))
    got = gradient(here, loss_of(here, compiled, GROUP, size=size))
    wanted = plain(here, pairs, loss(here))
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(got, wanted, **EXACT)


def test_where_the_student_is_the_reference_dpo_is_log_two():
    from preceptor_student.preferences import settled

    here = world(41)
    here.teachers["base"].copy_(here.student.detach())
    ready, _ = prepared(here, recipe(term()), GROUP)
    sums = [float(here.log_prob(one.tokens).detach()) for one in GROUP]
    assert settled(ready.terms[0], sums, [len(one.tokens) for one in GROUP]).loss == pytest.approx(LOG2, abs=1e-12)


def test_a_tie_makes_no_pair_and_an_unpaired_rollout_is_neither_counted_nor_skipped():
    here = world(41)
    ready, _ = prepared(here, recipe(term()), GROUP)
    assert ready.terms[0].pairs == ((2, 1),)
    assert (ready.valid_rows, ready.skipped_rows, ready.terms[0].divisor) == (5, 0, 1)
    tied, _ = prepared(here, recipe(term()), GROUP[3:])
    assert (tied.terms[0].pairs, tied.valid_rows) == ((), 0)


def test_a_response_with_a_missing_row_makes_no_pair_and_is_skipped_whole():
    here = world(41, missing=frozenset({("base", 2)}))
    ready, _ = prepared(here, recipe(term()), GROUP)
    assert ready.terms[0].pairs == ()  # rollouts 0, 2 and 4 have a third row; 1 and 3 are of different groups
    assert ready.skipped_rows == 9


def test_a_teachers_response_is_preferred_to_the_students_on_the_same_prompt():
    here = world(42)
    rollouts = [
        Rollout((0, 1, 2), "demonstrations", "demonstrations/0"),
        Rollout((1, 2), "rollouts", "rollouts/0"),
        Rollout((2, 2, 2), "demonstrations", "demonstrations/1"),
        Rollout((0, 0), "rollouts", "rollouts/1"),
        Rollout((0, 2), "rollouts", "rollouts/1"),
    ]
    pairs = {"op": "source_pairs", "params": {"rejected": "rollouts"}}
    compiled = recipe(term(pairs=pairs, on="demonstrations"))
    assert set(compiled.teachers["base"].on) == {"demonstrations", "rollouts"}
    loss = dpo(here, 0.1)
    wanted = gradient(here, (loss(rollouts[0], rollouts[1]) + loss(rollouts[2], rollouts[3])) / 2)
    torch.testing.assert_close(gradient(here, loss_of(here, compiled, rollouts, size=2)), wanted, **EXACT)


def test_in_expectation_over_the_students_draws_pairs_by_reward_raise_the_reward():
    """The direction of the exact mean gradient, against that of the expected reward."""
    here = world(43, length=2)

    def reward(tokens):
        return 2.0 * tokens[-1] + (tokens[0] == 1)

    compiled, total = recipe(term("bradley_terry")), torch.zeros_like(here.student)
    for a, pa in here.sequences():
        for b, pb in here.sequences():
            drawn = [Rollout(a, rewards={"judge": reward(a)}), Rollout(b, rewards={"judge": reward(b)})]
            total += pa * pb * gradient(here, loss_of(here, compiled, drawn))
    up = gradient(here, sum(here.log_prob(y).exp() * reward(y) for y, _ in here.sequences()))
    assert float(-(total * up).sum() / (total.norm() * up.norm())) > 0.5
