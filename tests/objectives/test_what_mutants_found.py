"""Small numbers for places where a changed sign, share or mask once went unnoticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from preceptor.recipes.ops.soft_targets import SoftTargetsParams
from preceptor.recipes.ops.spec import NoParams
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.objectives import OBJECTIVES, entropy, sampled, soft_targets, support
from preceptor_student.objectives.signals import ItemScores
from tests.objectives.world import Rollout, gradient, loss_of, recipe, world
from tests.unit.preceptor_student.scoring import support_rows, table_scores


def test_likelihood_rises_along_minus_the_gradient_of_nll() -> None:
    here, tokens = world(90), (0, 2, 1)
    drawn = [Rollout(tokens, "demonstrations", "demonstrations/0")]
    loss = loss_of(here, recipe({"on": "demonstrations", "objective": "nll"}), drawn)
    assert float(loss.detach()) == pytest.approx(-float(here.log_prob(tokens).detach()) / 3)
    torch.testing.assert_close(gradient(here, loss), gradient(here, -here.log_prob(tokens) / 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0, 1.5])
def test_a_soft_target_is_the_geometric_mixture_of_unequal_sides(share: float) -> None:
    p, q = torch.tensor([0.7, 0.2, 0.1]).double(), torch.tensor([0.2, 0.3, 0.5]).double()
    mixed = q**share * p ** (1 - share)
    target = mixed / mixed.sum()
    student = p.log()[None].requires_grad_()
    loss = soft_targets.loss(support_rows(student, table_scores(q.log()[None].numpy(), np.array([0]), 3)), SoftTargetsParams(
        teacher_share=share))  # fmt: skip
    assert float(loss.detach()) == pytest.approx(float((target * (target / p).log()).sum()), abs=1e-12)
    (slope,) = torch.autograd.grad(loss.sum(), student)
    torch.testing.assert_close(-slope[0], target, rtol=0, atol=1e-12)


def test_soft_targets_are_zero_where_the_teacher_is_and_need_a_bucket_where_it_is_not() -> None:
    with np.errstate(divide="ignore"):
        q = np.log(np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    scores = table_scores(q, np.array([0, 0]), 0, np.array([[0, 1], [0, 1]]))
    usable = OBJECTIVES["soft_targets"].usable
    tail, bare = SupportParams(student_topk=2), SupportParams(student_topk=2, tail=False)
    assert usable(support.read(scores, tail), 3).tolist() == [True, True]
    assert usable(support.read(scores, bare), 3).tolist() == [True, False]
    student = torch.tensor([[0.6, 0.3, 0.1]] * 2, dtype=torch.float64).log().requires_grad_()
    full = table_scores(q, np.array([0, 2]), 3)
    loss = soft_targets.loss(support_rows(student, full), SoftTargetsParams(teacher_share=1.0))
    wanted = [0.5 * np.log(0.5 / 0.6) + 0.5 * np.log(0.5 / 0.3), -np.log(0.1)]
    np.testing.assert_allclose(loss.detach().numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize(("module", "column"), [(sampled, "sampled_r"), (entropy, "entropy_r")])
def test_a_row_needs_its_number_and_the_teachers_word_that_it_is_valid(module, column) -> None:
    ok, numbers = np.array([True, True, False, False]), np.array([-1.0, np.nan, -1.0, np.nan], np.float32)
    full = replace(ItemScores(ok, np.zeros(4, np.int64)), **{column: numbers})
    assert module.read(full, NoParams()).valid_r.tolist() == [True, False, False, False]
    assert not module.read(ItemScores(ok, np.zeros(4, np.int64)), NoParams()).valid_r.any()
