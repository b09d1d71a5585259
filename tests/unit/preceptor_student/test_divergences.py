"""Divergences against exact formulas in float64, and against the mistakes that look like them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.recipes.ops.jsd import JsdParams
from preceptor.recipes.ops.spec import NoParams
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.objectives import OBJECTIVES, support
from tests.unit.preceptor_student.scoring import log_softmax, loss_of, support_rows, table_scores

PARAMS = {"reverse_kl": NoParams(), "forward_kl": NoParams(), "jsd": JsdParams(beta=0.3)}
NAMES = list(PARAMS)


def exact(name: str, student, teacher):
    """The divergence over the whole vocabulary, in plain formulas."""
    p, q = student.exp(), teacher.exp()
    if name == "reverse_kl":
        return (p * (student - teacher)).sum(-1)
    if name == "forward_kl":
        return (q * (teacher - student)).sum(-1)
    m = (0.3 * q + 0.7 * p).log()
    return 0.3 * (q * (teacher - m)).sum(-1) + 0.7 * (p * (student - m)).sum(-1)


@st.composite
def tables(draw, rows=3):
    """Logits of student and teacher, drawn tokens, the ids a student logged (repeats and overlaps happen), a top-k."""
    v = draw(st.integers(2, 7))
    numbers = st.lists(st.floats(-6, 6, width=32), min_size=rows * v, max_size=rows * v)
    logits = [np.array(draw(numbers), np.float64).reshape(rows, v) for _ in range(2)]
    targets = np.array(draw(st.lists(st.integers(0, v - 1), min_size=rows, max_size=rows)))
    wide = draw(st.integers(1, v))
    listed = np.array([draw(st.permutations(range(v)))[:wide] for _ in range(rows)])
    return logits[0], logits[1], targets, listed, draw(st.integers(1, v))


def loss_and_gradient(name: str, student_logits, teacher_logits, targets, listed, topk):
    logits = torch.tensor(student_logits, requires_grad=True)
    scores = table_scores(log_softmax(teacher_logits).numpy(), targets, topk, listed)
    loss = loss_of(name, support_rows(log_softmax(logits), scores), PARAMS[name])
    loss.sum().backward()
    return loss.detach(), logits.grad


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50)
@given(table=tables())
def test_the_full_support_gives_the_exact_divergence_and_gradient(name, table):
    student, teacher, targets, listed, _ = table
    loss, gradient = loss_and_gradient(name, student, teacher, targets, listed, student.shape[1])
    logits = torch.tensor(student, requires_grad=True)
    wanted = exact(name, log_softmax(logits), log_softmax(teacher))
    wanted.sum().backward()
    torch.testing.assert_close(loss, wanted.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(gradient, logits.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50)
@given(table=tables())
def test_support_and_tail_are_the_divergence_of_the_coarser_partition_and_a_lower_bound(name, table):
    student, teacher, targets, listed, topk = table
    loss, gradient = loss_and_gradient(name, student, teacher, targets, listed, topk)
    logits = torch.tensor(student, requires_grad=True)
    wanted = torch.stack([_coarse(name, logits[r], teacher[r], {*listed[r], targets[r]}, topk) for r in range(len(targets))])
    wanted.sum().backward()
    torch.testing.assert_close(loss, wanted.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, logits.grad, rtol=0, atol=1e-9)
    assert (loss >= -1e-12).all()
    assert (loss <= exact(name, log_softmax(student), log_softmax(teacher)) + 1e-10).all()


def _coarse(name, student_logits, teacher_logits, chosen, topk):
    """The exact divergence of one row after all tokens outside the support were merged into one."""
    v = len(teacher_logits)
    chosen = sorted({*chosen, *np.argsort(-log_softmax(teacher_logits).numpy(), kind="stable")[:topk]})
    others = [i for i in range(v) if i not in chosen]
    sides = []
    for logits in (student_logits, torch.tensor(teacher_logits)):
        full = log_softmax(logits)
        sides.append(torch.cat([full[chosen], full[others].logsumexp(0, keepdim=True)]) if others else full[chosen])
    return exact(name, *sides)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=50)
@given(table=tables())
def test_equal_distributions_have_no_loss_and_no_gradient(name, table):
    student, _, targets, listed, topk = table
    loss, gradient = loss_and_gradient(name, student, student, targets, listed, topk)
    assert loss.abs().max() < 1e-12
    assert gradient.abs().max() < 1e-12


def test_the_numbers_of_the_catalogue():
    student, teacher = torch.tensor([[0.5, 0.3, 0.2]]).double().log(), torch.tensor([[0.7, 0.2, 0.1]]).double().log()
    rows = support_rows(student, table_scores(teacher.numpy(), np.array([0]), 3))
    assert loss_of("forward_kl", rows).item() == pytest.approx(0.0851, abs=5e-5)
    assert loss_of("reverse_kl", rows).item() == pytest.approx(0.0920, abs=5e-5)
    assert loss_of("jsd", rows, JsdParams(beta=0.5)).item() == pytest.approx(0.0219, abs=5e-5)


def test_a_tail_far_below_f32_resolution_keeps_its_digits():
    """The support holds all but e^-20 of the mass: 1 - sum(exp) in f32 would say zero, or something negative."""
    logits = torch.tensor([[0.0, -20.0, -21.0, -22.0]], requires_grad=True)
    teacher = np.log(np.array([[0.25, 0.25, 0.25, 0.25]]))
    rows = support_rows(logits.log_softmax(-1), table_scores(teacher, np.array([0]), 0))
    loss_of("reverse_kl", rows).sum().backward()
    tail = torch.tensor([-20.0, -21.0, -22.0]).double().logsumexp(0)
    wanted = 1.0 * (0 - math.log(0.25)) + tail.exp().item() * (tail.item() - math.log(0.75))
    assert loss_of("reverse_kl", rows).item() == pytest.approx(wanted, rel=1e-6)
    assert logits.grad.isfinite().all()


# ---------------------------------------------------------------- zeros and holes


def test_a_zero_of_the_teacher_makes_reverse_kl_unusable_and_leaves_the_others_finite():
    teacher = np.log(np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]), where=[[1, 1, 0], [1, 1, 1]], out=np.full((2, 3), -np.inf))
    scores = table_scores(teacher, np.array([2, 1]), 3)
    signal = support.read(scores, _full(3))
    assert OBJECTIVES["reverse_kl"].usable(signal, 3).tolist() == [False, True]
    logits = torch.tensor([[0.1, 0.2, 0.3]] * 2).double().requires_grad_()
    for name in ("forward_kl", "jsd"):
        assert OBJECTIVES[name].usable(signal, 3).all()
        logits.grad = None
        loss = loss_of(name, support_rows(log_softmax(logits), scores), PARAMS[name])
        loss.sum().backward()
        assert logits.grad.isfinite().all()
        p, q = log_softmax(logits[0]).detach().exp(), torch.tensor([0.5, 0.5, 0.0]).double()
        m = 0.3 * q + 0.7 * p
        wanted = torch.special.xlogy(q, q / p).sum()
        if name == "jsd":
            wanted = 0.3 * torch.special.xlogy(q, q / m).sum() + 0.7 * torch.special.xlogy(p, p / m).sum()
        torch.testing.assert_close(loss[0].detach(), wanted)


def _full(v):
    return SupportParams(teacher_topk=v)


def test_a_teacher_tail_of_zero_is_infinite_only_where_the_student_has_a_tail():
    teacher = np.array([[0.5, 0.5, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        scores = table_scores(np.log(teacher), np.array([0]), 2)
    signal = support.read(scores, _full(2))
    assert np.isneginf(scores.tail_r).all()
    assert not OBJECTIVES["reverse_kl"].usable(signal, 4).any()
    assert OBJECTIVES["reverse_kl"].usable(signal, 2).all()


@pytest.mark.parametrize("hole", ["sampled", "topk", "listed", "tail", "row"])
def test_a_row_with_a_hole_is_not_valid(hole):
    scores = table_scores(log_softmax(np.zeros((2, 5))).numpy(), np.array([0, 1]), 2, np.array([[2], [3]]))
    match hole:
        case "sampled":
            scores.sampled_r[1] = np.nan
        case "topk":
            scores.topk_rk[1, 1] = np.nan
        case "listed":
            scores.listed_rc[1, 0] = np.nan
        case "tail":
            scores.tail_r[1] = np.nan
        case "row":
            scores.ok_r[1] = False
    signal = support.read(scores, SupportParams(teacher_topk=2, student_topk=1))
    assert signal.valid_r.tolist() == [True, False]


# ---------------------------------------------------------------- broken twins


def _gap(broken: torch.Tensor, right: torch.Tensor) -> float:
    return (broken - right).abs().max().item()


TABLE = (
    np.array([[1.0, 0.2, -0.5, 0.3, -1.0]]),
    np.array([[-0.7, 1.1, 0.4, -0.2, 0.9]]),
    np.array([3]),
    np.array([[0, 3]]),
    2,
)


def test_renormalising_both_sides_over_the_support_has_another_gradient():
    _, right = loss_and_gradient("reverse_kl", *TABLE)
    student, teacher, targets, listed, topk = TABLE
    logits = torch.tensor(student, requires_grad=True)
    chosen = sorted({*listed[0], targets[0], *np.argsort(-teacher[0])[:topk]})
    p, q = log_softmax(logits)[:, chosen].log_softmax(-1), log_softmax(teacher)[:, chosen].log_softmax(-1)
    (p.exp() * (p - q)).sum().backward()
    assert _gap(logits.grad, right) > 1e-2


def test_filling_a_missing_entry_with_zero_has_another_gradient():
    student, teacher, targets, listed, topk = TABLE
    _, right = loss_and_gradient("reverse_kl", *TABLE)
    scores = table_scores(log_softmax(teacher).numpy(), targets, topk, listed)
    scores.topk_rk[0, 0] = 0.0
    logits = torch.tensor(student, requires_grad=True)
    loss_of("reverse_kl", support_rows(log_softmax(logits), scores)).sum().backward()
    assert _gap(logits.grad, right) > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_another_teacher_gives_another_gradient(name):
    _, right = loss_and_gradient(name, *TABLE)
    _, other = loss_and_gradient(name, TABLE[0], -TABLE[1], *TABLE[2:])
    assert _gap(other, right) > 1e-2
