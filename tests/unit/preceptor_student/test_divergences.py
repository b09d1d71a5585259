"""Divergences against exact formulas in float64, on every support, and against the mistakes that look like them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.objectives import OBJECTIVES, support
from tests.unit.preceptor_student.divergence_cases import ALL, BOUNDED, F_DIVERGENCES, MIXES, label
from tests.unit.preceptor_student.scoring import log_softmax, loss_of, rows_of, support_rows, table_scores

EXAMPLES = 12
TABLE = (
    np.array([[1.0, 0.2, -0.5, 0.3, -1.0]]),
    np.array([[-0.7, 1.1, 0.4, -0.2, 0.9]]),
    np.array([3]),
    np.array([[0, 3]]),
    1,
)
"""Logits of student and teacher, the drawn token, what the student logged, the teacher's k: one row of five tokens."""
APART = np.random.default_rng(3).normal(size=(3, 7)) / 10
"""Keeps sides that are drawn equal apart: at a kink, such as that of total variation, every slope in between would be right."""

each = pytest.mark.parametrize("case", ALL, ids=label)


@st.composite
def tables(draw, rows=3):
    """Logits of student and teacher, drawn tokens, the ids a student logged (repeats and overlaps happen), a top-k."""
    v = draw(st.integers(2, 7))
    numbers = st.lists(st.floats(-6, 6, width=32), min_size=rows * v, max_size=rows * v)
    logits = [np.array(draw(numbers), np.float64).reshape(rows, v) for _ in range(2)]
    logits[0] += APART[:rows, :v]
    targets = np.array(draw(st.lists(st.integers(0, v - 1), min_size=rows, max_size=rows)))
    wide = draw(st.integers(1, v))
    listed = np.array([draw(st.permutations(range(v)))[:wide] for _ in range(rows)])
    return logits[0], logits[1], targets, listed, draw(st.integers(1, v))


def loss_and_gradient(case, student_logits, teacher_logits, targets, listed, topk, **support_params):
    logits = torch.tensor(student_logits, requires_grad=True)
    params = SupportParams(teacher_topk=topk, student_topk=listed.shape[1], **support_params)
    scores = table_scores(log_softmax(teacher_logits).numpy(), targets, topk, listed, sampled=bool(params.sampled))
    loss = loss_of(case[0], rows_of(log_softmax(logits), scores, params), case[1])
    return loss.detach(), _gradient(loss, logits)


def _gradient(loss, logits):
    (gradient,) = torch.autograd.grad(loss.sum(), logits, allow_unused=True, materialize_grads=True)
    return gradient


def members(teacher_logits, listed, target, topk, combine="union", sampled=True):
    """The support of one row, as a person would write it down."""
    top = set(np.argsort(-log_softmax(teacher_logits).numpy(), kind="stable")[:topk].tolist())
    chosen = top & set(listed.tolist()) if combine == "intersection" else top | set(listed.tolist())
    return sorted(chosen | {int(target)} if sampled else chosen)


def by_enumeration(case, table, *, tail=True, renormalise=False, **chosen_by):
    """Loss and gradient from the formula on whole vectors: members, then what lies outside of them."""
    student, teacher, targets, listed, topk = table
    logits = torch.tensor(student, requires_grad=True)
    losses = []
    for r, target in enumerate(targets):
        chosen = members(teacher[r], listed[r], target, topk, **chosen_by)
        sides = []
        for side in (logits[r], torch.tensor(teacher[r])):
            full = log_softmax(side).exp()
            inside, outside = full[chosen], full[[i for i in range(len(full)) if i not in chosen]].sum(0, keepdim=True)
            inside = inside / inside.sum() if renormalise else inside
            sides.append(torch.cat([inside, outside]) if tail and len(chosen) < len(full) else inside)
        losses.append(case[2](*(side[None] for side in sides))[0])
    loss = torch.stack(losses)
    return loss.detach(), _gradient(loss, logits)


def _assert_equal(ours, theirs, atol=1e-9):
    for mine, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=atol)


SUPPORTS = {
    "tail": {},
    "intersection": {"combine": "intersection"},
    "intersection without the draw": {"combine": "intersection", "sampled": False},
    "renormalised": {"tail": False, "renormalise": True},
}


def check(case, table, **support_params):
    """Loss and gradient on a support are those of the formula on the vectors that it stands for."""
    _assert_equal(loss_and_gradient(case, *table, **support_params), by_enumeration(case, table, **support_params))


@settings(max_examples=EXAMPLES)
@given(table=tables())
def test_the_full_support_gives_the_exact_divergence_and_gradient(table):
    student, teacher, targets, listed, _ = table
    for case in F_DIVERGENCES:
        logits = torch.tensor(student, requires_grad=True)
        wanted = case[2](log_softmax(logits).exp(), log_softmax(teacher).exp())
        ours = loss_and_gradient(case, student, teacher, targets, listed, student.shape[1])
        _assert_equal(ours, (wanted.detach(), _gradient(wanted, logits)))


@pytest.mark.parametrize("how", SUPPORTS)
@settings(max_examples=EXAMPLES)
@given(table=tables())
def test_a_support_stands_for_the_divergence_of_its_own_partition(how, table):
    for case in F_DIVERGENCES:
        check(case, table, **SUPPORTS[how])


@pytest.mark.parametrize("how", SUPPORTS)
@pytest.mark.parametrize("case", MIXES, ids=label)
def test_mixes_are_right_on_every_support(case, how):
    rng = np.random.default_rng(0)  # no ties: which of two equal buckets belongs to the head is nobody's business
    for v in (2, 3, 5, 7):
        listed = np.array([rng.permutation(v)[: max(1, v // 2)] for _ in range(8)])
        table = (*rng.normal(size=(2, 8, v)), rng.integers(0, v, 8), listed, max(1, v // 2))
        check(case, table, **SUPPORTS[how])


@settings(max_examples=EXAMPLES)
@given(table=tables())
def test_support_and_tail_are_a_lower_bound(table):
    for case in F_DIVERGENCES:
        loss, _ = loss_and_gradient(case, *table)
        assert (loss >= -1e-12).all()
        assert (loss <= case[2](log_softmax(table[0]).exp(), log_softmax(table[1]).exp()) + 1e-9).all()


@pytest.mark.parametrize(
    "case", [one for one in F_DIVERGENCES if one[0] in ("reverse_kl", "forward_kl", "jsd", "skew_kl")], ids=label
)
def test_a_bare_support_is_the_partial_sum(case):
    ours, wanted = loss_and_gradient(case, *TABLE, tail=False), by_enumeration(case, TABLE, tail=False)
    _assert_equal(ours, wanted)


@settings(max_examples=EXAMPLES)
@given(table=tables())
def test_equal_distributions_have_no_loss_and_no_gradient(table):
    student, _, targets, listed, topk = table
    for case in ALL:
        loss, gradient = loss_and_gradient(case, student, student, targets, listed, topk)
        assert loss.abs().max() < 1e-12
        if "total_variation" not in case[1].model_dump().values():  # it has a kink there, and the tail is a rounded sum
            assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("case", ALL, ids=label)
def test_equal_numbers_give_exactly_zero_in_f32(case):
    logits = torch.randn(64, 7, generator=torch.Generator().manual_seed(0)).mul(8).requires_grad_()
    student = logits.log_softmax(-1)
    scores = table_scores(student.detach().numpy(), np.zeros(64, np.int64), 7)
    loss = loss_of(case[0], rows_of(student, scores, SupportParams(teacher_topk=7)), case[1])
    assert (loss == 0).all()
    assert _gradient(loss, logits).abs().max() < 1e-6


def test_the_numbers_of_two_distributions():
    student, teacher = torch.tensor([[0.5, 0.3, 0.2]]).double().log(), torch.tensor([[0.7, 0.2, 0.1]]).double().log()
    rows = support_rows(student, table_scores(teacher.numpy(), np.array([0]), 3))
    assert loss_of("forward_kl", rows).item() == pytest.approx(0.0851, abs=5e-5)
    assert loss_of("reverse_kl", rows).item() == pytest.approx(0.0920, abs=5e-5)
    assert loss_of("jsd", rows).item() == pytest.approx(0.0219, abs=5e-5)
    assert loss_of("f_divergence", rows, OPS["f_divergence"].params(generator="total_variation")).item() == pytest.approx(0.2)


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


# ---------------------------------------------------------------- f32, extremes and limits


@each
def test_f32_stays_finite_and_close_to_float64_over_hundreds_of_nats(case):
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(200, 7, generator=generator).double() * scale for scale in (30.0, 30.0))
    targets, listed = np.zeros(200, np.int64), np.zeros((200, 1), np.int64)
    wanted, _ = loss_and_gradient(case, student.numpy(), teacher.numpy(), targets, listed, 7)
    logits = student.float().requires_grad_()
    scores = table_scores(log_softmax(teacher).float().numpy(), targets, 7)
    loss = loss_of(case[0], rows_of(logits.log_softmax(-1), scores, SupportParams(teacher_topk=7)), case[1])
    torch.testing.assert_close(loss.detach().double(), wanted, rtol=2e-5, atol=2e-5)
    assert _gradient(loss, logits).isfinite().all()


@pytest.mark.parametrize("alpha", [1e-6, 1e-4, 0.5 - 1e-9, 1 - 1e-4, 1 - 1e-7])
def test_alpha_near_its_ends_loses_no_digits_in_f32(alpha):
    params = OPS["alpha_divergence"].params(alpha=alpha)
    p, q = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[0.2, 0.3, 0.5]])
    scores = table_scores(q.double().log().numpy(), np.array([0]), 3)
    loss = loss_of("alpha_divergence", support_rows(p.log(), scores), params).item()
    reverse, forward = (p * (p / q).log()).sum().item(), (q * (q / p).log()).sum().item()
    a = alpha if 1e-3 < alpha < 1 - 1e-3 else None
    wanted = 4 * (1 - (p * q).sqrt().sum().item()) if a else reverse if alpha < 0.5 else forward
    assert loss == pytest.approx(wanted, rel=1e-3 if a is None else 1e-5)


# ---------------------------------------------------------------- clamps and stopped gradients


@pytest.mark.parametrize("case", F_DIVERGENCES, ids=label)
def test_clamps_cut_values_and_gradients_where_they_bind(case):
    name, params, _ = case
    free, free_gradient = loss_and_gradient(case, *TABLE)
    half = free.item() / 2
    cut, gradient = loss_and_gradient((name, params.model_copy(update={"row_clamp": half}), None), *TABLE)
    assert cut.item() == pytest.approx(half)
    assert (gradient == 0).all()
    loose = loss_and_gradient((name, params.model_copy(update={"row_clamp": 2 * free.item() + 1}), None), *TABLE)
    _assert_equal(loose, (free, free_gradient), atol=0)
    entry = loss_and_gradient((name, params.model_copy(update={"entry_clamp": free.item() / 8}), None), *TABLE)
    assert entry[0].item() < free.item()
    assert (entry[1] - free_gradient).abs().max() > 1e-3


def test_a_stopped_ratio_changes_only_bare_supports():
    plain, stopped = (("reverse_kl", OPS["reverse_kl"].params(stop_gradient=stop), None) for stop in (False, True))
    _assert_equal(loss_and_gradient(plain, *TABLE), loss_and_gradient(stopped, *TABLE), atol=1e-12)
    bare = [loss_and_gradient(one, *TABLE, tail=False)[1] for one in (plain, stopped)]
    assert (bare[0] - bare[1]).abs().max() > 1e-2


# ---------------------------------------------------------------- zeros and holes


@pytest.mark.parametrize("case", BOUNDED, ids=label)
def test_bounded_divergences_are_finite_and_right_at_a_zero_of_the_teacher(case):
    q = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    scores = table_scores(q.log().numpy(), np.array([2, 1]), 3)
    assert OBJECTIVES[case[0]].usable(support.read(scores, _full(3)), 3).all()
    logits = torch.tensor([[0.1, 0.2, 0.3]] * 2).double().requires_grad_()
    loss = loss_of(case[0], support_rows(log_softmax(logits), scores), case[1])
    wanted = case[2](log_softmax(logits).exp(), q)
    _assert_equal((loss.detach(), _gradient(loss, logits)), (wanted.detach(), _finite_gradient(wanted, logits)), atol=1e-12)


def _finite_gradient(loss, logits):
    gradient = _gradient(loss, logits)
    assert gradient.isfinite().all(), "the oracle itself must be defined there"
    return gradient


@pytest.mark.parametrize("name", ["reverse_kl", "adaptive_kl", "entropy_gated_kl"])
def test_a_zero_of_the_teacher_makes_the_reverse_part_unusable(name):
    with np.errstate(divide="ignore"):
        scores = table_scores(np.log(np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])), np.array([2, 1]), 3)
    assert OBJECTIVES[name].usable(support.read(scores, _full(3)), 3).tolist() == [False, True]


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
    for params in (SupportParams(teacher_topk=2, student_topk=1), SupportParams(teacher_topk=2, student_topk=1, sampled="apart")):
        assert support.read(scores, params).valid_r.tolist() == [True, False]


def test_a_row_with_nothing_to_compare_is_not_valid():
    scores = table_scores(log_softmax(np.array([[3.0, 2.0, 1.0, 0.0]] * 2)).numpy(), np.array([0, 0]), 1, np.array([[3], [0]]))
    empty = SupportParams(teacher_topk=1, student_topk=1, combine="intersection", sampled=False)
    assert support.read(scores, empty).valid_r.tolist() == [False, True]
    with np.errstate(divide="ignore"):
        zeros = table_scores(np.log(np.array([[0.0, 0.0, 1.0], [0.0, 0.5, 0.5]])), np.array([0, 0]), 0, np.array([[1], [1]]))
    ratio = SupportParams(student_topk=1, tail=False, renormalise=True)
    assert support.read(zeros, ratio).valid_r.tolist() == [False, True]


# ---------------------------------------------------------------- broken twins


def _gap(broken: torch.Tensor, right: torch.Tensor) -> float:
    return (broken - right).abs().max().item()


@each
def test_renormalising_both_sides_over_the_support_has_another_gradient(case):
    _, right = by_enumeration(case, TABLE)
    _, broken = loss_and_gradient(case, *TABLE, tail=False, renormalise=True)
    assert _gap(broken, right) > 5e-3


@pytest.mark.parametrize("case", [one for one in ALL if "total_variation" not in one[1].model_dump().values()], ids=label)
def test_filling_a_missing_entry_with_zero_has_another_gradient(case):
    student, teacher, targets, listed, topk = TABLE
    _, right = by_enumeration(case, TABLE)
    scores = table_scores(log_softmax(teacher).numpy(), targets, topk, listed)
    scores.topk_rk[0, 0] = 0.0
    logits = torch.tensor(student, requires_grad=True)
    assert _gap(_gradient(loss_of(case[0], support_rows(log_softmax(logits), scores), case[1]), logits), right) > 5e-3


@each
def test_another_teacher_gives_another_gradient(case):
    _, right = loss_and_gradient(case, *TABLE)
    _, other = loss_and_gradient(case, TABLE[0], -TABLE[1], *TABLE[2:])
    assert _gap(other, right) > 5e-3


@each
def test_the_divergence_is_the_same_whichever_token_was_drawn_so_as_an_advantage_it_teaches_nothing(case):
    """The broken twin that the linter refuses: E[grad log p(y) * constant] is zero."""
    student, teacher, _, _, _ = TABLE
    logits = torch.tensor(student, requires_grad=True)
    total = torch.zeros_like(logits)
    for token in range(student.shape[1]):
        scores = table_scores(log_softmax(teacher).numpy(), np.array([token]), student.shape[1])
        loss = loss_of(case[0], rows_of(log_softmax(logits), scores, _full(student.shape[1])), case[1]).detach()
        drawn = log_softmax(logits)[0, token]
        total += drawn.detach().exp() * _gradient(-loss * drawn, logits)
    assert total.abs().max() < 1e-12
    assert loss_and_gradient(case, *TABLE)[1].abs().max() > 5e-3
