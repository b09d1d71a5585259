"""Policy gradients by exact enumeration of every sequence of a tiny vocabulary, and by draws."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from preceptor.recipes.ops.group_relative import GroupRelativeParams
from preceptor.recipes.ops.k1 import K1Params
from preceptor.recipes.ops.spec import NoParams
from preceptor_student.objectives import ADVANTAGES, sampled
from preceptor_student.objectives.kinds import Facts
from preceptor_student.objectives.signals import Drawn
from tests.unit.preceptor_student.scoring import log_softmax, loss_of, sampled_rows, table_scores, with_advantage

V, T = 4, 3
STATES = 1 + V + V * V  # the prefixes of a sequence of three
DRAWS = 20_000


def tables(seed: int):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(STATES, V, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


def states_of(tokens):
    """The state before each token: the whole prefix, numbered."""
    return [0, 1 + tokens[0], 1 + V + V * tokens[0] + tokens[1]][: len(tokens)]


def k1_loss(student_rv, teacher_rv, targets):
    rows = sampled_rows(student_rv, table_scores(teacher_rv.numpy(), np.array(targets)))
    advantage = ADVANTAGES["k1"].per_row(rows, K1Params())
    assert not advantage.requires_grad
    return loss_of("policy_gradient", with_advantage(rows, advantage))


def gradient(loss, student):
    (result,) = torch.autograd.grad(loss, student)
    return result


def expectation(per_sequence):
    """The exact mean over all sequences that the student may draw."""
    student, teacher = tables(0)
    total = torch.zeros_like(student)
    for tokens in product(range(V), repeat=T):
        states = states_of(tokens)
        weight = sum(log_softmax(student)[s, t] for s, t in zip(states, tokens, strict=True)).exp().item()
        loss = per_sequence(log_softmax(student)[states], log_softmax(teacher)[states], tokens)
        total += weight * gradient(loss.sum(), student)
    return total


def reverse_kl_gradient():
    """The reverse KL of each state, weighted by how often the student gets there; the way there is held fixed."""
    student, teacher = tables(0)
    draw = log_softmax(student.detach()).exp()
    first, second = draw[0], draw[0][:, None] * draw[1 : 1 + V]
    reach = torch.cat([torch.ones(1, dtype=torch.float64), first, second.flatten()])
    p, q = log_softmax(student), log_softmax(teacher)
    return gradient((reach * (p.exp() * (p - q)).sum(1)).sum(), student)


def test_k1_has_the_gradient_of_the_reverse_kl_in_expectation():
    torch.testing.assert_close(expectation(k1_loss), reverse_kl_gradient(), rtol=0, atol=1e-12)


def test_back_propagating_the_log_ratio_itself_teaches_nothing():
    """The broken twin: its expected gradient is zero, whatever the teacher says."""

    def direct(student_rv, teacher_rv, tokens):
        picked = torch.tensor(tokens)[:, None]
        return student_rv.gather(1, picked) - teacher_rv.gather(1, picked)

    assert expectation(direct).abs().max() < 1e-12
    assert reverse_kl_gradient().abs().max() > 1e-2


def test_a_detached_divergence_as_an_advantage_teaches_nothing():
    """The broken twin that the linter refuses: it does not depend on the token."""

    def divergence(student_rv, teacher_rv, tokens):
        kl = (student_rv.exp() * (student_rv - teacher_rv)).sum(1).detach()
        rows = sampled_rows(student_rv, table_scores(teacher_rv.numpy(), np.array(tokens)))
        return loss_of("policy_gradient", with_advantage(rows, -kl))

    assert expectation(divergence).abs().max() < 1e-12


def test_k1_from_draws_is_within_four_standard_errors_of_the_exact_gradient():
    student, teacher = tables(1)
    student_v, teacher_v = log_softmax(student)[:1], log_softmax(teacher)[:1]
    tokens = torch.multinomial(student_v.detach().exp()[0], DRAWS, replacement=True, generator=torch.Generator().manual_seed(7))
    rows = student_v.expand(DRAWS, V).detach().clone().requires_grad_()
    loss = k1_loss(rows, teacher_v.expand(DRAWS, V), tokens.numpy())
    per_draw = torch.autograd.grad(loss.sum(), rows)[0]  # with respect to log-probabilities; then through the softmax
    per_draw = per_draw - student_v.detach().exp() * per_draw.sum(1, keepdim=True)
    mean, error = per_draw.mean(0), per_draw.std(0) / DRAWS**0.5
    p, q = student_v.detach()[0], teacher_v[0]
    exact = p.exp() * ((p - q) - (p.exp() * (p - q)).sum())
    assert ((mean - exact).abs() <= 4 * error).all()
    assert error.max() < 0.02
    assert (exact.abs() > 4 * error).any(), "the test could not tell this gradient from zero"


def test_an_impossible_token_is_skipped_by_k1():
    scores = table_scores(np.array([[-np.inf, 0.0], [-0.5, -0.9]]), np.array([0, 1]))
    assert ADVANTAGES["k1"].usable(Facts(sampled.read(scores, NoParams()), Drawn(), V), K1Params()).tolist() == [False, True]


# ---------------------------------------------------------------- rewards of groups


def over_batch(rewards, groups, **params):
    return ADVANTAGES["group_relative"].over_batch(rewards, groups, GroupRelativeParams(**params))


def test_group_relative_compares_within_groups_wherever_their_members_stand():
    assert over_batch([1.0, 10.0, 3.0, 20.0], ["a", "b", "a", "b"]) == [-1.0, -5.0, 1.0, 5.0]
    assert over_batch([1.0, 3.0], ["a", "a"], std_offset=1.0) == [-0.5, 0.5]
    assert over_batch([4.0, 4.0], ["a", "a"], std_offset=0.1) == [0.0, 0.0]


@pytest.mark.parametrize("shift", [-5.0, 3.0])
def test_group_relative_does_not_change_when_all_rewards_move(shift):
    rewards = [0.5, 2.0, 4.0]
    moved = [reward + shift for reward in rewards]
    assert over_batch(moved, ["g"] * 3, std_offset=1.0) == pytest.approx(over_batch(rewards, ["g"] * 3, std_offset=1.0))
