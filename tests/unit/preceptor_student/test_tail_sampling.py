"""`unbiased`: support, tail bucket and drawn token together have the mean of the divergence over the whole vocabulary."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from preceptor.errors import ConfigurationError
from preceptor.recipes.load import validate
from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.monitors import Means, watch_rows
from preceptor_student.objectives import ADVANTAGES, OBJECTIVES, support
from tests.unit.preceptor_student.divergence_cases import F_DIVERGENCES, label
from tests.unit.preceptor_student.scoring import log_softmax, loss_of, rows_of, sampled_rows, table_scores, with_advantage

V, DRAWS = 7, 20_000
APART = SupportParams(teacher_topk=1, student_topk=2, sampled="apart")
each = pytest.mark.parametrize("case", F_DIVERGENCES, ids=label)


def corrected(case):
    return case[1].model_copy(update={"unbiased": True})


def tables(seed: int, states: int = 1, v: int = V):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (1.5 * torch.randn(states, v, generator=generator, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


def loss_n(name, params, student_rv, teacher_rv, tokens, signal=APART):
    """The loss of rows that drew these tokens; what the student logs is its own top two, whatever it drew."""
    listed = student_rv.detach().topk(signal.student_topk, dim=1).indices.numpy()
    scores = table_scores(teacher_rv.numpy(), np.asarray(tokens), signal.teacher_topk, listed)
    return loss_of(name, rows_of(student_rv, scores, signal), params)


def gradient(loss, by):
    (result,) = torch.autograd.grad(loss, by)
    return result


def over_all_tokens(case, params):
    """Mean loss and mean gradient over every token that the student may draw."""
    student, teacher = tables(0)
    tokens = np.arange(V)
    losses = loss_n(case[0], params, log_softmax(student).expand(V, V), log_softmax(teacher).expand(V, V), tokens)
    weights = log_softmax(student.detach())[0].exp()
    return (weights * losses.detach()).sum(), gradient((weights * losses).sum(), student)


def exact(case):
    student, teacher = tables(0)
    loss = case[2](log_softmax(student).exp(), log_softmax(teacher).exp()).sum()
    return loss.detach(), gradient(loss, student)


@each
def test_value_and_gradient_have_the_mean_of_the_full_divergence(case):
    for ours, wanted in zip(over_all_tokens(case, corrected(case)), exact(case), strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-10)


@each
def test_without_the_correction_both_are_off(case):
    for ours, wanted in zip(over_all_tokens(case, case[1]), exact(case), strict=True):
        assert (ours - wanted).abs().max() > 1e-3


def test_whole_sequences_have_the_reach_weighted_gradient():
    """Every sequence of two tokens out of four; the way to a state is held fixed, as for all divergences."""
    v = 4
    student, teacher = tables(1, 1 + v, v)
    p = log_softmax(student)
    small = SupportParams(teacher_topk=1, student_topk=1, sampled="apart")
    total = torch.zeros_like(student)
    for first, second in product(range(v), repeat=2):
        states = [0, 1 + first]
        weight = (p[0, first] + p[1 + first, second]).exp().item()
        losses = loss_n(
            "reverse_kl", corrected(F_DIVERGENCES[0]), p[states], log_softmax(teacher)[states], [first, second], small
        )
        total += weight * torch.autograd.grad(losses.sum(), student, retain_graph=True)[0]
    reach = torch.cat([torch.ones(1, dtype=torch.float64), p[0].detach().exp()])
    wanted = gradient((reach * (p.exp() * (p - log_softmax(teacher))).sum(1)).sum(), student)
    torch.testing.assert_close(total, wanted, rtol=0, atol=1e-10)


@each
def test_draws_are_within_four_standard_errors_and_would_notice_the_bias(case):
    per_draw, value_n, _ = _draws(case, corrected(case))
    loss, wanted = exact(case)
    error = per_draw.std(0) / DRAWS**0.5
    assert ((per_draw.mean(0) - wanted[0]).abs() <= 4 * error).all()
    assert abs(value_n.mean() - loss) <= 4 * value_n.std() / DRAWS**0.5
    _, biased = over_all_tokens(case, case[1])
    assert ((biased - wanted).abs()[0] > 4 * error).any(), "so many draws could not tell the bias"


def test_it_varies_less_than_the_policy_gradient_of_the_same_draws():
    ours, _, tokens = _draws(F_DIVERGENCES[0], corrected(F_DIVERGENCES[0]))
    student, teacher = (log_softmax(x.detach()).expand(DRAWS, V) for x in tables(0))
    leaf = student.clone().requires_grad_()
    rows = sampled_rows(leaf, table_scores(teacher.numpy(), tokens))
    advantage = ADVANTAGES["k1"].per_row(rows, OPS["k1"].params())
    theirs = _through_softmax(gradient(loss_of("policy_gradient", with_advantage(rows, advantage)).sum(), leaf), student)
    assert ours.var(0).sum() < theirs.var(0).sum() / 4


def _draws(case, params):
    """(gradient of each draw with respect to the logits, loss of each draw, tokens)"""
    student, teacher = tables(0)
    p = log_softmax(student.detach())[0].exp()
    tokens = torch.multinomial(p, DRAWS, replacement=True, generator=torch.Generator().manual_seed(5)).numpy()
    logits = student.detach().expand(DRAWS, V).clone().requires_grad_()
    losses = loss_n(case[0], params, log_softmax(logits), log_softmax(teacher).expand(DRAWS, V), tokens)
    return gradient(losses.sum(), logits), losses.detach(), tokens


def _through_softmax(by_log_probs, log_probs):
    return by_log_probs - log_probs.exp() * by_log_probs.sum(1, keepdim=True)


def test_the_monitor_estimates_the_bias_and_its_error():
    student, teacher = tables(0)
    p = log_softmax(student.detach())
    tokens = torch.multinomial(p[0].exp(), DRAWS, replacement=True, generator=torch.Generator().manual_seed(6)).numpy()
    listed = p.topk(2, dim=1).indices.expand(DRAWS, 2).numpy()
    scores = table_scores(log_softmax(teacher).expand(DRAWS, V).numpy(), tokens, 1, listed)
    means = Means()
    for part in np.split(np.arange(DRAWS), 4):  # micro-batches
        watch_rows(rows_of(p.expand(len(part), V), _part(scores, part), APART), means)
    found = means.means()
    bias = exact(F_DIVERGENCES[0])[0] - over_all_tokens(F_DIVERGENCES[0], F_DIVERGENCES[0][1])[0]
    assert bias > 0.01
    assert abs(found["tail_bias"] - bias) <= 4 * found["tail_bias_error"]
    assert found["tail_bias_error"] < bias / 4
    assert found["tail_bias_variance"] == pytest.approx(found["tail_bias_error"] ** 2 * DRAWS)
    assert 0 < found["drawn_outside"] < 1


def _part(scores, rows):
    return type(scores)(
        **{
            name: value[rows] if isinstance(value := getattr(scores, name), np.ndarray) else value
            for name in type(scores).__dataclass_fields__
        }
    )


def test_no_monitor_speaks_of_a_bias_where_the_draw_always_joins():
    student, teacher = tables(0)
    scores = table_scores(log_softmax(teacher).numpy(), np.array([0]), 2)
    means = Means()
    watch_rows(rows_of(log_softmax(student.detach()), scores, SupportParams(teacher_topk=2)), means)
    assert not {name for name in means.means() if name.startswith("tail_bias")}


def test_a_drawn_zero_of_the_teacher_is_infinite_for_reverse_kl_only():
    with np.errstate(divide="ignore"):
        scores = table_scores(np.log(np.array([[0.6, 0.4, 0.0, 0.0], [0.4, 0.3, 0.2, 0.1]])), np.array([2, 3]), 1)
    signal = support.read(scores, SupportParams(teacher_topk=1, sampled="apart"))
    assert OBJECTIVES["reverse_kl"].usable(signal, 4).tolist() == [False, True]
    assert OBJECTIVES["forward_kl"].usable(signal, 4).all()


@pytest.mark.parametrize("clamp", ["entry_clamp", "row_clamp"])
def test_a_clamp_beside_it_is_refused(clamp):
    with pytest.raises(ConfigurationError, match="clamp"):
        validate(OPS["reverse_kl"].params, {"unbiased": True, clamp: 1.0}, "terms[0].objective.params")


@pytest.mark.parametrize(
    "params",
    [
        {"teacher_topk": 2, "tail": False, "sampled": "apart"},
        {"sampled": "apart"},
        {"teacher_topk": 2, "combine": "intersection"},
        {"teacher_topk": 2, "renormalise": True},
        {"sampled": False},
    ],
)
def test_a_support_that_contradicts_itself_is_refused(params):
    with pytest.raises(ConfigurationError):
        validate(SupportParams, params, "terms[0].signal.params")
