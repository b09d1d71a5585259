"""Every divergence over all responses of three tokens: what a training step makes of it is its plain formula, row by row.

A divergence is differentiated through the probabilities on each row and not through the drawing of the rows before it, so
its mean gradient is that of the formula on every prefix, weighted by how often the student gets there.
"""

from __future__ import annotations

import itertools

import pytest
import torch

from preceptor.errors import ConfigurationError
from tests.objectives.world import SIZES, Rollout, V, expectation, gradient, loss_of, recipe, singles, world
from tests.unit.preceptor_student.divergence_cases import ALL, label

SUPPORTS = {"everything": {"teacher_topk": V}, "top and draw": {"teacher_topk": 1}, "top": {"teacher_topk": 1, "sampled": False}}
EXACT = {"rtol": 0, "atol": 1e-10}
HERE = world(80)
EVERY = [tokens for tokens, _ in HERE.sequences()]

each = pytest.mark.parametrize("case", ALL, ids=label)


def term(case, **support):
    name, params, _ = case
    signal = {"op": "support", "params": support}
    return {"teacher": "tutor", "signal": signal, "objective": {"op": name, "params": params.model_dump(exclude_defaults=True)}}


def mean_gradient(here, one):
    compiled = recipe(one)
    return expectation(here, singles, lambda drawn: gradient(here, loss_of(here, compiled, drawn)))


def partition(here, tokens, row, support):
    """Both sides of a row as a person would write them: the members, then all others together."""
    teacher = here.rows(here.teachers["tutor"], tokens)[row].exp()
    student = here.rows(here.student, tokens)[row].exp()
    chosen = set(teacher.argsort(descending=True)[: support["teacher_topk"]].tolist())
    if support.get("sampled", True):
        chosen.add(tokens[row])
    outside = [token for token in range(here.vocabulary) if token not in chosen]
    sides = (student, teacher)
    return tuple(torch.cat([one[sorted(chosen)], *([one[outside].sum()[None]] if outside else [])])[None] for one in sides)


def by_formula(here, case, support):
    """The mean over sequences of the mean over rows, differentiated at fixed probabilities of the sequences."""
    total = torch.zeros((), dtype=torch.float64)
    for tokens, probability in here.sequences():
        rows = [case[2](*partition(here, tokens, row, support))[0] for row in range(len(tokens))]
        total = total + probability * torch.stack(rows).mean()
    return gradient(here, total)


def check(here, case, how):
    support = {"teacher_topk": here.vocabulary} if how == "everything" else SUPPORTS[how]
    wanted = by_formula(here, case, support)
    assert wanted.abs().max() > 1e-4
    torch.testing.assert_close(mean_gradient(here, term(case, **support)), wanted, **EXACT)


@pytest.mark.parametrize("how", SUPPORTS)
@pytest.mark.parametrize("size", SIZES)
@each
def test_the_mean_gradient_over_all_responses_is_that_of_the_formula(case, how, size):
    check(world(80, **SIZES[size]), case, how)


@pytest.mark.slow
@each
def test_over_all_343_responses_of_seven_tokens_and_three_rows(case):
    check(world(82, length=3, vocabulary=7), case, "top and draw")


@each
def test_a_step_of_many_responses_is_the_mean_over_their_rows_whatever_the_micro_batches(case):
    drawn = [Rollout(tokens) for tokens in itertools.islice(EVERY, 0, None, 5)]
    compiled = recipe(term(case, teacher_topk=1))
    whole = gradient(HERE, loss_of(HERE, compiled, drawn))
    parts = sum(gradient(HERE, loss_of(HERE, compiled, [one])) for one in drawn) / len(drawn)
    torch.testing.assert_close(whole, parts, **EXACT)
    torch.testing.assert_close(gradient(HERE, loss_of(HERE, compiled, drawn, size=2)), whole, **EXACT)


# ---------------------------------------------------------------- broken twins


@each
def test_the_gradient_goes_with_the_teacher_and_is_zero_where_both_agree(case):
    one = term(case, teacher_topk=1)
    other, same = world(80), world(80)
    other.teachers["tutor"].copy_(world(81).teachers["tutor"])
    same.teachers["tutor"].copy_(same.student.detach())
    assert (mean_gradient(HERE, one) - mean_gradient(other, one)).abs().max() > 1e-3
    if "total_variation" not in case[1].model_dump().values():  # every slope is right at its kink
        assert mean_gradient(same, one).abs().max() < 1e-12


@each
def test_a_missing_score_takes_its_row_out_and_is_not_filled(case):
    holes = world(80, missing=frozenset({("tutor", 1)}))
    found = mean_gradient(holes, term(case, teacher_topk=1))
    assert (found[1 : 1 + V] == 0).all(), "states that only the second row can be in"
    wanted = mean_gradient(HERE, term(case, teacher_topk=1)) * 3 / 2
    torch.testing.assert_close(found[0], wanted[0], **EXACT)


@each
def test_renormalising_over_the_support_is_another_gradient_and_the_recipe_says_that_it_is_biased(case):
    broken = term(case, teacher_topk=2, sampled=False, tail=False, renormalise=True)
    right = term(case, teacher_topk=2, sampled=False)
    assert (mean_gradient(HERE, broken) - mean_gradient(HERE, right)).abs().max() > 1e-3
    assert any("renormalise" in one.field for one in recipe(broken).warnings)
    assert recipe(right).warnings == ()


@each
def test_as_an_advantage_it_is_the_same_whichever_token_was_drawn_and_refused(case):
    name, params, _ = case
    use = {"op": name, "params": params.model_dump(exclude_defaults=True)}
    with pytest.raises(ConfigurationError, match="whichever token was drawn"):
        recipe(term(case, teacher_topk=1) | {"objective": "policy_gradient", "advantage": use})


@each
def test_without_a_teacher_it_is_refused(case):
    one = term(case, teacher_topk=1)
    with pytest.raises(ConfigurationError):
        recipe({key: value for key, value in one.items() if key not in ("teacher", "signal")})
