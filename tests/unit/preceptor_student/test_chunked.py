"""The student's head in chunks: values and gradients of whole rows at once, whatever the chunks, and no rows x vocabulary."""

# pyright: reportOptionalMemberAccess=false, reportOptionalOperand=false, reportOperatorIssue=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.divergence import DivergenceParams
from preceptor_serving.models.vocabulary_head import Head as TeacherHead
from preceptor_student.full import Behind, HiddenStates, Whole, WholeRows
from preceptor_student.gradients import TermGradients, logit_gradient_squared_n
from preceptor_student.head import Head
from preceptor_student.objectives import forward_kl, reverse_kl
from preceptor_student.objectives.student import Asked, read_rows
from preceptor_student.reading import Lookup, read_student
from tests.unit.preceptor_student.divergence_cases import F_DIVERGENCES, label

N, H, V = 11, 5, 9


def head_and_states(**changes):
    generator = torch.Generator().manual_seed(0)
    states, weight, bias = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((N, H), (V, H), (V,)))
    head = Head(weight.requires_grad_(), bias.requires_grad_(), **changes)
    return head, states.requires_grad_()


def lookups():
    """Three terms: a support with tail on every row, a bare one on some rows, and only the drawn token on others."""
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(np.array([rng.permutation(V)[:4] for _ in range(N)]))
    present = torch.from_numpy(rng.random((N, 4)) < 0.7)
    targets = torch.from_numpy(rng.integers(0, V, N))
    some, others = np.array([0, 3, 4, 9]), np.array([5, 10])
    return [
        Lookup(np.arange(N), Asked(targets, ids.where(present, 0), present, tail=True, top=2)),
        Lookup(some, Asked(targets[some], ids[some], torch.ones(4, 4, dtype=torch.bool))),
        Lookup(others, Asked(targets[others])),
    ]


def scalar(students):
    """Something that depends on every output in its own way."""
    return sum(
        (i + 1) * (one.sampled_n.sin().sum() + one.listed_ns.square().sum() + (2 * one.tail_n).exp().sum())
        for i, one in enumerate(students)
    )


@pytest.mark.parametrize("chunk_rows", [1, 2, 3, N, 100])
@pytest.mark.parametrize("changes", [{}, {"scale": 0.5, "soft_cap": 3.0, "temperature": 0.7}], ids=["plain", "capped"])
def test_any_chunks_give_the_values_and_gradients_of_all_rows_at_once(chunk_rows, changes):
    head, states = head_and_states(**changes)
    inputs = (states, head.weight_vh, head.bias_v)
    found = read_student(states, head, lookups(), chunk_rows)
    ours = torch.autograd.grad(scalar(found), inputs)
    log_probs = head.log_probs(head.product(states))
    wanted = [read_rows(log_probs[torch.from_numpy(one.rows)], one.asked) for one in lookups()]
    theirs = torch.autograd.grad(scalar(wanted), inputs)
    for mine, right in zip(found, wanted, strict=True):
        for name in ("sampled_n", "listed_ns", "tail_n", "open_n"):
            torch.testing.assert_close(getattr(mine, name), getattr(right, name))
        for name in ("entropy_n", "collision_n", "top_ids_nk"):
            torch.testing.assert_close(getattr(mine.observed, name), getattr(right.observed, name))
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right)


def test_the_rows_of_a_term_do_not_depend_on_the_others():
    head, states = head_and_states()
    together = read_student(states, head, lookups(), 3)
    for i, lookup in enumerate(lookups()):
        (alone,) = read_student(states, head, [lookup], 4)
        torch.testing.assert_close(together[i].sampled_n, alone.sampled_n)
        torch.testing.assert_close(together[i].tail_n, alone.tail_n)


def test_no_tensor_of_rows_times_vocabulary_outlives_a_chunk():
    """Whatever autograd saves between forward and backward is as small as the states and what was read."""
    head, states = head_and_states()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        scalar(read_student(states, head, lookups(), 2))
    assert max(saved) < N * V


# ---------------------------------------------------------------- the share of each term


def test_the_gradient_with_respect_to_the_logits_follows_from_the_few_that_were_read():
    for lookup in lookups():
        asked = lookup.asked
        logits = torch.randn(len(lookup.rows), V, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        logits.requires_grad_()
        student = read_rows(logits.log_softmax(-1), asked)
        leaf = TermGradients.leaf(student)
        inputs = (leaf.sampled_n, leaf.listed_ns, leaf.tail_n)
        above = torch.autograd.grad(scalar([leaf]), inputs, materialize_grads=True)
        (wanted,) = torch.autograd.grad(scalar([student]), logits)
        torch.testing.assert_close(logit_gradient_squared_n(leaf, asked, above), wanted.square().sum(1))


def test_terms_add_up_to_one_backward_pass_and_report_their_norms():
    head, states = head_and_states()
    inputs = (states, head.weight_vh, head.bias_v)
    whole = torch.autograd.grad(scalar(read_student(states, head, lookups(), 3)), inputs)
    gradients = TermGradients(3)
    for term, (lookup, student) in enumerate(zip(lookups(), read_student(states, head, lookups(), 3), strict=True)):
        leaf = gradients.leaf(student)
        gradients.take(term, (term + 1) * scalar([leaf]), student, leaf, lookup.asked)
    gradients.backward()
    for tensor, wanted in zip(inputs, whole, strict=True):
        torch.testing.assert_close(tensor.grad, wanted)
    norms = gradients.norms()
    assert all(norm > 0 for norm in norms)
    twice = TermGradients(1)
    (student,) = read_student(states, head, lookups()[:1], 3)
    leaf = twice.leaf(student)
    twice.take(0, 2 * scalar([leaf]), student, leaf, lookups()[0].asked)
    assert twice.norms()[0] == pytest.approx(2 * norms[0])


def test_a_constant_loss_takes_nothing_and_sends_nothing():
    head, states = head_and_states()
    (student,) = read_student(states, head, lookups()[:1], 3)
    gradients = TermGradients(1)
    gradients.take(0, torch.ones(()), student, gradients.leaf(student), lookups()[0].asked)
    gradients.backward()
    assert states.grad is None
    assert gradients.norms() == [0.0]


# ---------------------------------------------------------------- every token


def softmax_of(states, weight, temperature=1.0):
    return (states @ weight.double().T / temperature).softmax(-1)


def compared(states, head, whole, chunk_rows=None):
    (student,) = read_student(states, head, [Lookup(np.arange(N), Asked(torch.zeros(N, dtype=torch.int64)), whole)], chunk_rows)
    return student.compared


def teacher_of(form, tokens=V, rows=V, temperature=1.0):
    """A teacher with a head of so many rows, and its exact distribution over them."""
    generator = torch.Generator().manual_seed(4)
    states, weight = (torch.randn(*shape, generator=generator) for shape in ((N, 3), (rows, 3)))
    exact = softmax_of(states.double(), weight, temperature)
    if form == "states":
        parts = [Behind(slice(0, 4), TeacherHead(weight, tokens)), Behind(slice(4, N), TeacherHead(weight, tokens))]
        return HiddenStates(states, parts, temperature), exact
    padding = exact[:, tokens:].sum(1).log() if rows > tokens else None
    return WholeRows(exact[:, :tokens].log(), padding), exact


def bucketed(probs, tokens):
    """Real tokens, and all padding as one."""
    return torch.cat([probs[:, :tokens], probs[:, tokens:].sum(1, keepdim=True)], 1) if probs.shape[1] > tokens else probs


@pytest.mark.parametrize("case", F_DIVERGENCES, ids=label)
@pytest.mark.parametrize("chunk_rows", [2, N])
@pytest.mark.parametrize(("form", "tolerance"), [("rows", 1e-9), ("states", 3e-6)])  # a teacher's head computes in f32
@pytest.mark.parametrize(("tokens", "rows"), [(V, V), (V - 2, V + 3)], ids=["equal heads", "padded heads"])
def test_a_teacher_that_gives_everything_gives_the_exact_divergence_and_gradient(case, chunk_rows, form, tolerance, tokens, rows):
    head, states = head_and_states(temperature=0.8)
    inputs = (states, head.weight_vh, head.bias_v)
    given, exact = teacher_of(form, tokens, rows, 0.8)
    summand = importlib.import_module(f"preceptor_student.objectives.{case[0]}").summand
    ours = compared(states, head, Whole(given, summand, case[1]), chunk_rows)
    student = head.log_probs(head.product(states)).exp()
    wanted = case[2](bucketed(student, tokens), bucketed(exact, tokens))
    torch.testing.assert_close(ours.nats_n, wanted, rtol=0, atol=tolerance)
    by_row = torch.linspace(1, 2, N, dtype=torch.float64)  # rows may weigh differently
    for mine, right in zip(
        torch.autograd.grad((by_row * ours.nats_n).sum(), inputs),
        torch.autograd.grad((by_row * wanted).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, right, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("tokens", [V, V - 2])
def test_the_facts_of_a_comparison_are_those_of_the_whole_distributions(tokens):
    head, states = head_and_states()
    given, exact = teacher_of("rows", tokens)
    ours = compared(states, head, Whole(given, forward_kl.summand, DivergenceParams()), 3)
    logits = (states @ head.weight_vh.T + head.bias_v).detach().requires_grad_()
    p, q = bucketed(logits.softmax(-1), tokens), bucketed(exact, tokens)
    forward = (q * (q / p).log()).sum(1)
    (gradient,) = torch.autograd.grad(forward.sum(), logits)
    torch.testing.assert_close(ours.gradient_squared_n, gradient.square().sum(1))
    torch.testing.assert_close(ours.reverse_kl_n, (p * (p / q).log()).sum(1).detach())
    torch.testing.assert_close(ours.entropy_gap_n, ((q * q.log()).sum(1) - (p * p.log()).sum(1)).detach())


def test_a_term_on_every_token_brings_its_gradient_and_its_norm():
    head, states = head_and_states()
    given, exact = teacher_of("rows")
    lookup = Lookup(np.arange(N), Asked(torch.zeros(N, dtype=torch.int64)), Whole(given, reverse_kl.summand, reverse_kl.EXACT))
    (student,) = read_student(states, head, [lookup], 4)
    gradients, leaf = TermGradients(1), TermGradients.leaf(student)
    weights = torch.linspace(1, 3, N, dtype=torch.float64)
    gradients.take(0, (weights * leaf.compared.nats_n).sum(), student, leaf, lookup.asked)
    gradients.backward()
    logits = (states @ head.weight_vh.T + head.bias_v).detach().requires_grad_()
    p = logits.softmax(-1)
    (weights * (p * (p / exact).log()).sum(1)).sum().backward()
    torch.testing.assert_close(states.grad, logits.grad @ head.weight_vh.detach())
    assert gradients.norms()[0] == pytest.approx(float(logits.grad.norm()), rel=1e-9)


def test_a_teacher_whose_weights_changed_in_between_is_read_through_both_heads():
    generator = torch.Generator().manual_seed(9)
    states, first, second = (torch.randn(*shape, generator=generator) for shape in ((N, 3), (V, 3), (V, 3)))
    parts = [Behind(slice(0, 5), TeacherHead(first, V)), Behind(slice(5, N), TeacherHead(second, V))]
    found, padding = HiddenStates(states, parts).log_probs(slice(2, 9))
    wanted = torch.cat([softmax_of(states[2:5].double(), first), softmax_of(states[5:9].double(), second)]).log()
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=3e-6)
    assert padding is None


def test_heads_that_cannot_be_compared_are_refused():
    head, states = head_and_states()
    exact = reverse_kl.EXACT
    with pytest.raises(InvalidArgument, match="tokens that the student has not"):
        compared(states, head, Whole(WholeRows(torch.zeros(N, V + 1)), reverse_kl.summand, exact))
    with pytest.raises(InvalidArgument, match="the student alone has mass there"):
        compared(states, head, Whole(WholeRows(torch.zeros(N, V - 1)), reverse_kl.summand, exact))
    with pytest.raises(InvalidArgument, match="nothing is sampled"):
        Whole(WholeRows(torch.zeros(N, V)), reverse_kl.summand, exact.model_copy(update={"unbiased": True}))
