"""The exact ends of ops: a number that is its bound, a response of one row, a row that does not count, a mean that is zero."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives import (
    ADVANTAGES,
    OBJECTIVES,
    PAIRINGS,
    SAMPLE_WEIGHTS,
    TOKEN_WEIGHTS,
    TRANSFORMS,
    quantities,
    ratios,
    responses,
)
from preceptor_student.objectives.group_relative import over_batch
from preceptor_student.objectives.kinds import Facts
from preceptor_student.objectives.rows import Support, TermRows
from preceptor_student.objectives.samples import Sample
from preceptor_student.objectives.signals import Drawn, Signal
from preceptor_student.objectives.student import Asked, read_rows
from tests.reference import divergence_oracle as oracle
from tests.unit.preceptor_student.scoring import loss_of, support_rows, table_scores

EXACT = {"rtol": 0, "atol": 1e-12}


def params(op: str, **values: object) -> Any:
    return OPS[op].params(**values)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def flat(lengths, counts=None, student=None, teacher=None, **more):
    """Rows of several responses; the student's log-probability of each drawn token is `student`, of the teacher `teacher`."""
    rows = sum(lengths)
    p = (numbers(*student) if student is not None else torch.full((rows,), 0.5).double().log()).exp()
    log_probs = torch.stack([p, 1 - p], 1).log().requires_grad_()
    targets = torch.zeros(rows, dtype=torch.int64)
    return TermRows(
        read_rows(log_probs, Asked(targets)),
        targets,
        None if teacher is None else numbers(*teacher),
        owner_n=torch.cat([torch.full((length,), at) for at, length in enumerate(lengths)]),
        row_n=torch.cat([torch.arange(length) for length in lengths]),
        counts_n=torch.ones(rows, dtype=torch.bool) if counts is None else torch.tensor(counts),
        **more,
    )


def weights(op, rows, before, **values):
    apply = TOKEN_WEIGHTS[op].apply
    assert apply is not None
    return apply(rows, numbers(*before), params(op, **values))


# ---------------------------------------------------------------- bounds belong to what they bound


def test_a_ratio_on_either_bound_is_believed():
    rows = flat([3], student=[-1.0] * 3, drawn_behaviour_n=numbers(-1.0, -1.0 - np.log(4.0), -1.0 + np.log(4.0)))
    for low, high in ((1.0, 2.0), (0.5, 1.0)):
        assert weights("masked_ratio", rows, [1.0] * 3, low=low, high=high).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("bound", ["at_least", "at_most"])
def test_a_quantity_on_its_bound_is_inside(bound):
    rows = flat([3], student=[-0.5, -0.4, -0.6])
    edge = float(quantities.quantity_n("student_surprisal", rows)[0])
    wanted = [3.0, 0.0, 7.0] if bound == "at_least" else [3.0, 5.0, 0.0]
    assert weights("within", rows, [3.0, 5.0, 7.0], of="student_surprisal", **{bound: edge}).tolist() == wanted


def test_the_teachers_entropy_has_to_exceed_the_threshold():
    """Half and half is ln 2 to the bit: a gate at ln 2 is shut, one just below it is open."""
    p, q = numbers(0.8, 0.2)[None], numbers(0.5, 0.5)[None]
    rows = support_rows(p.log(), table_scores(q.log().numpy(), np.array([0]), 2))
    forward, reverse = oracle.forward_kl(p, q), oracle.reverse_kl(p, q)
    gate = {"forward_weight": 1.0, "reverse_weight": 0.0}
    shut = loss_of("entropy_gated_kl", rows, params("entropy_gated_kl", threshold_nats=float(np.log(2.0)), **gate))
    wide = loss_of("entropy_gated_kl", rows, params("entropy_gated_kl", threshold_nats=float(np.log(2.0)) - 1e-9, **gate))
    torch.testing.assert_close(shut, reverse, **EXACT)
    torch.testing.assert_close(wide, forward, **EXACT)


def test_a_head_that_is_full_takes_no_further_token():
    """Half of the mass stands on one token: the shortest list that holds half is that token."""
    p, q = numbers(0.2, 0.7, 0.1)[None], numbers(0.5, 0.25, 0.25)[None]
    rows = support_rows(p.log(), table_scores(q.log().numpy(), np.array([0]), 3))
    share = 0.3 / (0.3 + 0.45 + 0.15)
    wanted = share * oracle.forward_kl(p, q) + (1 - share) * oracle.reverse_kl(p, q)
    torch.testing.assert_close(loss_of("adaptive_kl", rows, params("adaptive_kl", head_mass=0.5)), wanted, **EXACT)


# ---------------------------------------------------------------- numbers that no gradient may enter


def leaf(*values):
    return numbers(*values).requires_grad_()


@pytest.mark.parametrize("name", ["policy_gradient", "ppo_clip"])
def test_no_gradient_flows_through_an_advantage(name):
    advantage = leaf(1.0, -2.0)
    rows = replace(flat([2], drawn_behaviour_n=numbers(-0.7, -0.7)), advantage_n=advantage)
    loss = OBJECTIVES[name].loss(rows, params(name)).sum()
    assert loss.requires_grad
    assert torch.autograd.grad(loss, advantage, allow_unused=True) == (None,)


@pytest.mark.parametrize("op", ["truncated_ratio", "masked_ratio"])
def test_no_gradient_flows_through_a_ratio_that_weighs(op):
    assert not weights(op, flat([2], drawn_behaviour_n=numbers(-0.7, -0.7)), [1.0, 1.0]).requires_grad


def with_support(lengths, **more):
    """Both tokens of a vocabulary of two in the support."""
    rows = flat(lengths, **more)
    count = len(rows.targets_n)
    ids, there = torch.tensor([[0, 1]] * count), torch.ones(count, 2, dtype=torch.bool)
    p = torch.full((count, 2), 0.5, dtype=torch.float64).log().requires_grad_()
    teacher = numbers(0.9, 0.1).log().expand(count, 2)
    student = read_rows(p, Asked(rows.targets_n, ids, there, tail=True, top=1))
    return replace(rows, student=student, support=Support(ids, there, teacher, torch.zeros(count).double(), there))


def test_no_gradient_flows_through_a_baseline_or_a_quantity():
    rows = with_support([2])
    assert not TRANSFORMS["kl_baseline"].apply(rows, numbers(1.0, 2.0), NoParams()).requires_grad
    assert not quantities.quantity_n("divergence", rows).requires_grad
    assert not rows.student.observed.entropy_n.requires_grad


# ---------------------------------------------------------------- responses of several lengths, rows that do not count


def test_a_table_has_one_line_for_each_response_and_is_as_wide_as_the_longest():
    table = responses.by_response(flat([1, 3]), numbers(5.0, 6.0, 7.0, 8.0), -1.0)
    assert table.tolist() == [[5.0, -1.0, -1.0], [6.0, 7.0, 8.0]]
    some = responses.counted(flat([1, 3], [True, True, False, True]), numbers(5.0, 6.0, 7.0, 8.0), 0.0)
    assert some.tolist() == [[5.0, 0.0, 0.0], [6.0, 0.0, 8.0]]


def test_weights_have_mean_one_over_the_rows_that_count():
    rows = flat([2, 3], [True, True, True, False, True])
    found = weights("mean_one", rows, [1.0, 3.0, 2.0, 50.0, 6.0])
    torch.testing.assert_close(found, numbers(0.5, 1.5, 0.5, 12.5, 1.5), **EXACT)
    assert weights("mean_one", flat([1, 2]), [2.0, 0.0, 0.0]).tolist() == [1.0, 0.0, 0.0]


def test_the_top_fraction_is_of_the_rows_that_count():
    rows = flat([2, 4], [True, True, True, False, True, True])
    assert weights("top_fraction", rows, [1.0, 2.0, 3.0, 9.0, 1.0, 2.0], fraction=0.6).tolist() == [0, 1, 1, 0, 0, 1]


def test_a_fraction_of_many_rows_is_rounded_as_python_rounds_it():
    """0.575 * 100 is just below 57.5 in float64, and 57.5 in float32, which would be 58 rows."""
    count = int(weights("top_fraction", flat([100]), list(range(100)), fraction=0.575).sum())
    assert count == round(0.575 * 100) == 57


def test_a_share_is_of_the_largest_row_that_counts():
    rows = flat([1, 3], [True, True, False, True], student=[-1.0, -1.0, -8.0, -2.0])
    found = weights("relative", rows, [1.0] * 4, of="student_surprisal", gain=1.0)
    torch.testing.assert_close(found[[0, 1, 3]], numbers(2.0, 1.5, 2.0), **EXACT)


def test_a_response_without_a_positive_value_weighs_one():
    """Where both sides agree every log-ratio is zero: nothing divided by nothing must not come of it."""
    rows = flat([2], student=[np.log(0.5)] * 2, teacher=[np.log(0.5)] * 2)
    assert weights("relative", rows, [1.0, 4.0], of="log_ratio").tolist() == [1.0, 4.0]


def test_a_relative_weight_is_never_below_zero():
    """A row three times as far below zero as the largest is above it: 1 - 3 is cut to 0, 1 - 0.5 is not cut."""
    rows = flat([3], student=[-2.0, -2.0, -2.0], teacher=[-1.0, -5.0, -2.5])
    found = weights("relative", rows, [1.0, 1.0, 1.0], of="log_ratio")
    torch.testing.assert_close(found, numbers(2.0, 0.0, 0.5), **EXACT)


@pytest.mark.parametrize("horizon", [1, 2, 3, 4, 9])
def test_a_horizon_past_the_end_is_the_whole_sum(horizon):
    rows, advantage = flat([3, 1]), [1.0, 2.0, 4.0, 8.0]
    found = TRANSFORMS["reward_to_go"].apply(rows, numbers(*advantage), params("reward_to_go", horizon=horizon, discount=0.5))
    wanted = [sum(0.5**far * one for far, one in enumerate(advantage[at:3][:horizon])) for at in range(3)]
    torch.testing.assert_close(found, numbers(*wanted, 8.0), **EXACT)


# ---------------------------------------------------------------- rows that have no number


def facts(teacher=(-1.0, -np.inf, -1.0, -np.inf), policy=(-1.0, -1.0, np.nan, np.nan), behaviour=None):
    policy_r, behaviour_r = (None if one is None else np.array(one, np.float32) for one in (policy, behaviour))
    return Facts(Signal(np.ones(4, bool), np.array(teacher, np.float32)), Drawn(policy_r, behaviour_r), 3)


def test_k1_against_the_drawing_student_needs_both_numbers():
    assert ADVANTAGES["k1"].usable(facts(), params("k1", student="drawn")).tolist() == [True, False, False, False]
    assert ADVANTAGES["k1"].usable(facts(), params("k1")).tolist() == [True, False, True, False]


@pytest.mark.parametrize("of", ["teacher_surprisal", "log_ratio"])
def test_a_quantity_of_an_impossible_token_is_infinite_and_its_row_not_used(of):
    assert quantities.usable(facts(), params("relative", of=of)).tolist() == [True, False, True, False]


def test_a_ratio_is_taken_against_the_column_that_the_recipe_names():
    """One column lacks its second row, the other its first."""
    here = facts(policy=(-1.0, np.nan, -1.0, -1.0), behaviour=(np.nan, -1.0, -1.0, -1.0))
    assert ratios.logged(here, params("ppo_clip", against="policy")).tolist() == [True, False, True, True]
    assert ratios.logged(here, params("ppo_clip", against="behaviour")).tolist() == [False, True, True, True]
    assert not ratios.logged(facts(policy=None), params("ppo_clip", against="policy")).any()


# ---------------------------------------------------------------- groups and samples


def test_a_reward_is_held_against_the_mean_of_the_others():
    found = over_batch([1.0, 2.0, 6.0, 5.0], ["a", "a", "a", "b"], params("group_relative", baseline="others"))
    assert found == pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5, 0.0])
    assert over_batch([1.0, 3.0], ["a", "a"], params("group_relative", baseline="others")) == [-2.0, 2.0]


def test_every_reward_needs_its_group():
    with pytest.raises(ValueError, match="zip"):
        over_batch([1.0, 2.0], ["a"], params("group_relative"))


def test_both_powers_of_a_pass_rate_are_powers():
    group = [Sample("s", "g", reward=one) for one in (1.0, 0.0, 0.0, 0.0)]
    found = SAMPLE_WEIGHTS["pass_rate"](group, params("pass_rate", passed_at=1.0, solved=2.0, unsolved=3.0))
    assert found == pytest.approx([0.25**2 * 0.75**3] * 4)


def test_who_is_not_taken_or_not_known_does_not_count_in_its_group():
    group = [
        Sample("s", "g", mean_student=-1.0),
        Sample("s", "g", mean_student=-2.0),
        Sample("s", "g", mean_student=-3.0, taken=False),
        Sample("s", "g"),
    ]
    found = SAMPLE_WEIGHTS["perplexity"](group, params("perplexity", of="student", prefer="likely", sharpness=2.0))
    first = 2 / (1 + np.exp(-2.0))
    assert found[:2] == pytest.approx([first, 2 - first])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("take", ["all", "extremes"])
def test_pairs_are_further_apart_than_the_gap_and_never_equal(take):
    group = [Sample("s", "g", reward=one) for one in (-3.0, -3.0, -1.0)]
    pairs = {
        gap: sorted(PAIRINGS["reward_pairs"](group, params("reward_pairs", take=take, min_gap=gap))) for gap in (0.0, 1.5, 2.0)
    }
    every = [(2, 0), (2, 1)] if take == "all" else [(2, 0)]
    assert pairs == {0.0: every, 1.5: every, 2.0: []}
    level = [Sample("s", "g", reward=2.0)] * 2
    assert PAIRINGS["reward_pairs"](level, params("reward_pairs", take=take)) == []
