"""Policy gradients against exact enumeration of every response of a tiny vocabulary, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from preceptor.errors import ConfigurationError
from tests.objectives.world import SIZES, Rollout, expectation, gradient, groups, loss_of, prepared, recipe, singles, world

EXACT = {"rtol": 0, "atol": 1e-10}
SAMPLED = {"teacher": "tutor", "signal": "sampled"}
JUDGED = {"teacher": "judge", "signal": {"op": "reward", "params": {"grader": "g"}}}
SUPPORT = {"op": "support", "params": {"teacher_topk": 2}}


def k1_term(*transforms, objective: Any = "policy_gradient", **more):
    return {**SAMPLED, "objective": objective, "advantage": ["k1", *transforms], "normaliser": "sequences", **more}


def judged_term(objective="policy_gradient", **params):
    return {**JUDGED, "objective": objective, "advantage": {"op": "group_relative", "params": params}, "normaliser": "sequences"}


def expected(here, term, draws=singles):
    compiled = recipe(term)
    return expectation(here, draws, lambda drawn: gradient(here, loss_of(here, compiled, drawn)))


def ratios(here, tokens):
    """log teacher - log student of each token."""
    teacher, student = (here.rows(table, tokens).detach() for table in (here.teachers["tutor"], here.student))
    return [float(teacher[row, token] - student[row, token]) for row, token in enumerate(tokens)]


def with_coefficients(here, coefficients):
    """The exact mean of minus sum of coefficient * gradient of log student, coefficients by plain arithmetic."""
    total = torch.zeros_like(here.student)
    for tokens, probability in here.sequences():
        rows = here.rows(here.student, tokens)
        loss = -torch.stack([c * rows[row, tokens[row]] for row, c in enumerate(coefficients(here, tokens))]).sum()
        total += probability * gradient(here, loss)
    return total


# ---------------------------------------------------------------- rewards to go


@pytest.mark.parametrize("size", SIZES)
def test_k1_to_go_is_the_gradient_of_the_reverse_kl_of_whole_responses(size):
    here = world(**SIZES[size])
    responses = [(here.log_prob(y), here.log_prob(y, here.teachers["tutor"])) for y, _ in here.sequences()]
    kl = torch.stack([p.exp() * (p - q) for p, q in responses]).sum()
    assert float(kl.detach()) > 0.1
    torch.testing.assert_close(expected(here, k1_term("reward_to_go")), gradient(here, kl), **EXACT)


def to_go(discount, *, current, mean, horizon):
    def coefficients(here, tokens):
        r, out = ratios(here, tokens), []
        for row in range(len(r)):
            start = row if current else row + 1
            taken = r[start : start + (horizon or len(r))]
            value = sum(discount**far * one for far, one in enumerate(taken))
            out.append(value / len(taken) if mean and taken else value)
        return out

    return coefficients


@pytest.mark.parametrize("discount", [1.0, 0.7])
@pytest.mark.parametrize("current", [True, False])
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize("horizon", [None, 2])
@pytest.mark.parametrize("size", SIZES)
def test_reward_to_go_is_the_plain_sum(discount, current, mean, horizon, size):
    here = world(1, **SIZES[size])
    params = {"discount": discount, "include_current": current, "mean": mean, "horizon": horizon}
    term = k1_term({"op": "reward_to_go", "params": params})
    wanted = with_coefficients(here, to_go(discount, current=current, mean=mean, horizon=horizon))
    assert wanted.abs().max() > 1e-2
    torch.testing.assert_close(expected(here, term), wanted, **EXACT)


@pytest.mark.parametrize(
    ("params", "counted"),
    [({}, [2]), ({"horizon": 2}, [2]), ({"horizon": 1, "include_current": False}, [2]), ({"include_current": False}, [2])],
)
def test_a_sum_over_a_missing_score_is_not_taken(params, counted):
    """Row 1 has no score: no row whose sum needs it counts, and none is taken to be zero."""
    here = world(missing=frozenset({("tutor", 1)}))
    ready, _ = prepared(here, recipe(k1_term({"op": "reward_to_go", "params": params})), [Rollout((0, 1, 2))])
    one = ready.terms[0].items[0]
    assert one is not None
    assert one.loss_rows.tolist() == counted
    assert (ready.valid_rows, ready.skipped_rows) == (len(counted), 3 - len(counted))


def test_a_short_horizon_looks_past_the_rows_that_it_can_know():
    here = world(missing=frozenset({("tutor", 3)}), length=5)
    term = k1_term({"op": "reward_to_go", "params": {"horizon": 2}})
    ready, _ = prepared(here, recipe(term), [Rollout((0, 1, 2, 0, 1))])
    one = ready.terms[0].items[0]
    assert one is not None
    assert (one.rows.tolist(), one.loss_rows.tolist()) == ([0, 1, 2, 4], [0, 1, 4])


@pytest.mark.parametrize("params", [{}, {"mean": True}, {"horizon": 2}, {"include_current": False, "discount": 0.5}])
def test_responses_of_other_lengths_in_a_batch_do_not_reach_into_each_other(params):
    here, rollouts = world(1), [Rollout((1,)), Rollout((0, 1, 2)), Rollout((2, 2))]
    compiled = recipe(k1_term({"op": "reward_to_go", "params": params}))
    together = gradient(here, loss_of(here, compiled, rollouts))
    apart = sum(gradient(here, loss_of(here, compiled, [one])) for one in rollouts) / 3
    torch.testing.assert_close(together, apart, **EXACT)


# ---------------------------------------------------------------- transforms

TRANSFORMED = {
    "scale": ({"op": "scale", "params": {"by": -2.5}}, lambda r, s: -2.5 * r),
    "clip": ({"op": "clip", "params": {"low": -0.4, "high": 0.3}}, lambda r, s: min(max(r, -0.4), 0.3)),
    "clip above": ({"op": "clip", "params": {"high": 0.1}}, lambda r, s: min(r, 0.1)),
    "keep positive": ({"op": "keep_sign", "params": {"sign": "positive"}}, lambda r, s: max(r, 0.0)),
    "keep negative": ({"op": "keep_sign", "params": {"sign": "negative"}}, lambda r, s: min(r, 0.0)),
    "gate": (
        {"op": "factor_within", "params": {"of": "student_entropy", "at_least": 0.8}},
        lambda r, s: r if s["student_entropy"] >= 0.8 else 0.0,
    ),
    "flip": (
        {"op": "factor_within", "params": {"of": "log_ratio", "at_most": -0.2, "inside": -1.0, "outside": 1.0}},
        lambda r, s: -r if r <= -0.2 else r,
    ),
    "damp": (
        {"op": "factor_within", "params": {"of": "teacher_surprisal", "at_least": 0.5, "at_most": 1.5, "inside": 0.5}},
        lambda r, s: 0.5 * r if 0.5 <= s["teacher_surprisal"] <= 1.5 else 0.0,
    ),
    "where the teacher is sure": (
        {"op": "factor_within", "params": {"of": "teacher_entropy", "at_most": 0.9}},
        lambda r, s: r if s["teacher_entropy"] <= 0.9 else 0.0,
    ),
    "where the draw surprises": (
        {"op": "factor_within", "params": {"of": "student_surprisal", "at_least": 1.0}},
        lambda r, s: r if s["student_surprisal"] >= 1.0 else 0.0,
    ),
}


def facts(here, tokens, row):
    """The quantities of a row by plain formulas."""
    p, q = (here.rows(table, tokens).detach()[row] for table in (here.student, here.teachers["tutor"]))
    return {
        "student_entropy": -float((p.exp() * p).sum()),
        "teacher_entropy": -float((q.exp() * q).sum()),
        "student_surprisal": -float(p[tokens[row]]),
        "teacher_surprisal": -float(q[tokens[row]]),
        "divergence": float((p.exp() * (p - q)).sum()),
        "log_ratio": float(q[tokens[row]] - p[tokens[row]]),
        "overlap": float(len({*p.topk(2).indices.tolist()} & {*q.topk(2).indices.tolist()})) / 2,
    }


@pytest.mark.parametrize("name", TRANSFORMED)
@pytest.mark.parametrize("size", SIZES)
def test_a_transform_is_its_plain_formula(name, size):
    here, (transform, formula) = world(2, **SIZES[size]), TRANSFORMED[name]

    def coefficients(here, tokens):
        return [formula(r, facts(here, tokens, row)) for row, r in enumerate(ratios(here, tokens))]

    wanted = with_coefficients(here, coefficients)
    torch.testing.assert_close(expected(here, k1_term(transform)), wanted, **EXACT)
    assert size == "wide" or (wanted - expected(here, k1_term())).abs().max() > 1e-2


def test_transforms_work_in_order():
    here = world(2)
    clip, scale = {"op": "clip", "params": {"low": -0.4}}, {"op": "scale", "params": {"by": 3.0}}
    wanted = with_coefficients(here, lambda here, y: [3.0 * max(r, -0.4) for r in ratios(here, y)])
    torch.testing.assert_close(expected(here, k1_term(clip, scale)), wanted, **EXACT)
    assert (wanted - expected(here, k1_term(scale, clip))).abs().max() > 1e-2


def test_advantages_add_up_and_what_stands_before_is_transformed_first():
    """A judge's reward beside a tutor's clipped log-ratio, each read from its own teacher."""
    here = world(2, length=2)
    clip = {"op": "clip", "params": {"low": -0.4}}
    both = judged_term() | {"advantage": [{"op": "k1", "teacher": "tutor"}, clip, "group_relative"]}

    def draws(here):
        return groups(here, reward)

    wanted = expected(here, k1_term(clip), draws) + expected(here, judged_term(), draws)
    torch.testing.assert_close(expected(here, both, draws), wanted, **EXACT)


@pytest.mark.parametrize("size", SIZES)
def test_two_log_ratios_extrapolate_beyond_a_teacher(size):
    """1.25 log(teacher / base) - log(student / base), the tilted target of reward extrapolation."""
    here = world(3, **SIZES[size])
    term = k1_term() | {
        "advantage": [
            {"op": "k1", "params": {"scale": 1.25}},
            {"op": "k1", "params": {"scale": -0.25}, "teacher": "base"},
        ]
    }

    def coefficients(here, tokens):
        t, b, s = (here.rows(one, tokens).detach() for one in (here.teachers["tutor"], here.teachers["base"], here.student))
        return [float(1.25 * (t[r, y] - b[r, y]) - (s[r, y] - b[r, y])) for r, y in enumerate(tokens)]

    torch.testing.assert_close(expected(here, term), with_coefficients(here, coefficients), **EXACT)


@pytest.mark.parametrize("topk", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
def test_the_closed_form_baseline_changes_the_draws_and_not_their_mean(topk, size):
    here = world(4, **SIZES[size])
    support = {"op": "support", "params": {"teacher_topk": topk, "sampled": False}}
    plain, centred = k1_term(), k1_term({"op": "kl_baseline", "teacher": "twin", "signal": support})
    torch.testing.assert_close(expected(here, centred), expected(here, plain), **EXACT)
    assert gradients_differ(here, plain, centred)


def gradients_differ(here, a, b):
    """On some rollout, whatever the means are."""
    a, b = recipe(a), recipe(b)
    drawn = [Rollout((0, 1, 2)[: here.length])]
    return (gradient(here, loss_of(here, a, drawn)) - gradient(here, loss_of(here, b, drawn))).abs().max() > 1e-2


def test_a_baseline_that_holds_the_drawn_token_is_biased_and_refused(monkeypatch):
    """The broken twin: the partition of the row, and so the coarse divergence, depends on the token that was drawn."""
    here, support = world(4), {"op": "support", "params": {"teacher_topk": 1}}
    term = k1_term({"op": "kl_baseline", "signal": support})
    with pytest.raises(ConfigurationError, match="depends on the drawn token"):
        recipe(term)
    monkeypatch.setattr("preceptor.recipes.compile.lint", lambda recipe, terms, rollout_engine: [])
    assert (expected(here, term) - expected(here, k1_term())).abs().max() > 1e-3


def test_against_the_drawing_student_the_advantage_reads_the_logged_column():
    here = world(5, behaviour=world(6).student.detach())

    def coefficients(here, tokens):
        t, b = (here.rows(one, tokens).detach() for one in (here.teachers["tutor"], here.behaviour))
        return [float(t[r, y] - b[r, y]) for r, y in enumerate(tokens)]

    term = k1_term() | {"advantage": {"op": "k1", "params": {"student": "drawn"}}}
    torch.testing.assert_close(expected(here, term), with_coefficients(here, coefficients), **EXACT)


# ---------------------------------------------------------------- importance ratios


def test_an_unclipped_ratio_makes_stale_draws_as_good_as_fresh_ones():
    """Each row weighted by its ratio has the on-policy mean over that row's token, whatever the way there."""
    here = world(7, behaviour=world(8).student.detach(), length=1)
    fresh = world(7, length=1)
    corrected = k1_term(token_weights={"op": "truncated_ratio", "params": {"cap": 1e6}})
    torch.testing.assert_close(expected(here, corrected), expected(fresh, k1_term()), **EXACT)
    assert (expected(here, k1_term()) - expected(fresh, k1_term())).abs().max() > 1e-2
    ppo = k1_term(objective={"op": "ppo_clip", "params": {"low": 0.999999, "high": 1e6}})
    torch.testing.assert_close(expected(here, ppo), expected(fresh, k1_term()), **EXACT)


def importance(here, tokens):
    now, then = (here.rows(one, tokens).detach() for one in (here.student, here.behaviour))
    return [math.exp(float(now[row, token] - then[row, token])) for row, token in enumerate(tokens)]


RATIOS = {
    "truncated": ({"op": "truncated_ratio", "params": {"cap": 1.3}}, lambda w: min(w, 1.3)),
    "masked": ({"op": "masked_ratio", "params": {"low": 0.7, "high": 1.6}}, lambda w: w if 0.7 <= w <= 1.6 else 0.0),
}


@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("size", SIZES)
def test_detached_ratios_are_their_plain_formulas(name, size):
    drawing = world(10, **SIZES[size]).student.detach()
    here, (weight, formula) = world(9, behaviour=drawing, **SIZES[size]), RATIOS[name]

    def coefficients(here, tokens):
        return [formula(w) * r for w, r in zip(importance(here, tokens), ratios(here, tokens), strict=True)]

    wanted = with_coefficients(here, coefficients)
    torch.testing.assert_close(expected(here, k1_term(token_weights=weight)), wanted, **EXACT)
    assert (wanted - with_coefficients(here, lambda h, y: [w * r for w, r in zip(importance(h, y), ratios(h, y), strict=True)])
            ).abs().max() > 1e-3  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_the_clipped_surrogate_stops_paying_where_the_ratio_went_too_far(size):
    here = world(9, behaviour=world(10, **SIZES[size]).student.detach(), **SIZES[size])
    term = k1_term(objective={"op": "ppo_clip", "params": {"low": 0.2, "high": 0.3}})

    def coefficients(here, tokens):
        pairs = zip(importance(here, tokens), ratios(here, tokens), strict=True)
        return [0.0 if (a > 0 and w > 1.3) or (a < 0 and w < 0.8) else w * a for w, a in pairs]

    wanted = with_coefficients(here, coefficients)
    torch.testing.assert_close(expected(here, term), wanted, **EXACT)


def test_on_the_drawing_weights_the_clipped_surrogate_is_the_policy_gradient():
    here = world(11)
    torch.testing.assert_close(expected(here, k1_term(objective="ppo_clip")), expected(here, k1_term()), **EXACT)


# ---------------------------------------------------------------- rewards of groups


def reward(tokens):
    return 2.0 * tokens[-1] + (tokens[0] == 1)


def expected_reward_gradient(here):
    return gradient(here, -torch.stack([here.log_prob(tokens).exp() * reward(tokens) for tokens, _ in here.sequences()]).sum())


def test_against_the_others_rewards_have_the_gradient_of_the_expected_reward():
    here = world(12, length=2)
    got = expected(here, judged_term(baseline="others"), lambda here: groups(here, reward))
    torch.testing.assert_close(got, expected_reward_gradient(here), **EXACT)


def test_against_the_group_they_have_a_share_of_it():
    """The own reward is part of the mean: (n - 1) / n of the gradient."""
    here = world(12, length=2)
    got = expected(here, judged_term(scale=2.0), lambda here: groups(here, reward))
    torch.testing.assert_close(got, expected_reward_gradient(here), **EXACT)


def test_an_environments_reward_trains_as_a_judges_does():
    here = world(12, length=2)
    played = {key: value for key, value in judged_term(scale=2.0).items() if key != "teacher"} | {"signal": "environment"}
    got = expected(here, played, lambda here: groups(here, reward, giver="environment"))
    torch.testing.assert_close(got, expected_reward_gradient(here), **EXACT)


def test_over_the_spread_rewards_count_by_sign_in_a_group_of_two():
    here = world(12, length=2)
    got = expected(here, judged_term(std_offset=1e-9), lambda here: groups(here, reward))
    total = torch.zeros_like(here.student)
    for a, pa in here.sequences():
        for b, pb in here.sequences():
            sign = (reward(a) > reward(b)) - (reward(a) < reward(b))
            total += pa * pb * gradient(here, -sign * (here.log_prob(a) - here.log_prob(b)) / 2)
    torch.testing.assert_close(got, total, rtol=0, atol=1e-6)
