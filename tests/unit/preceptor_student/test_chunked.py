"""The student's head in chunks: values and gradients of whole rows at once, whatever the chunks, and no rows x vocabulary."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

from preceptor.errors import InvalidArgument
from preceptor_student.full import HiddenStates, WholeRows, full_divergence
from preceptor_student.gradients import TermGradients, logit_gradient_squared_n
from preceptor_student.head import Head
from preceptor_student.objectives import reverse_kl
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


# ---------------------------------------------------------------- teachers that give everything


@pytest.mark.parametrize("case", F_DIVERGENCES, ids=label)
@pytest.mark.parametrize("chunk_rows", [2, N])
@pytest.mark.parametrize("form", ["rows", "states"])
def test_whole_rows_and_hidden_states_give_the_exact_divergence_and_gradient(case, chunk_rows, form):
    head, states = head_and_states(temperature=0.8)
    inputs = (states, head.weight_vh, head.bias_v)
    generator = torch.Generator().manual_seed(4)
    theirs, weight = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((N, 3), (V, 3)))
    teacher = HiddenStates(theirs, Head(weight))
    given = teacher if form == "states" else WholeRows(teacher.log_probs(slice(0, N)))
    summand = importlib.import_module(f"preceptor_student.objectives.{case[0]}").summand
    ours = full_divergence(states, head, given, summand, case[1], chunk_rows)
    wanted = case[2](head.log_probs(head.product(states)).exp(), (theirs @ weight.T).softmax(-1))
    torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-9)
    by_row = torch.linspace(1, 2, N, dtype=torch.float64)  # rows may weigh differently
    for mine, right in zip(
        torch.autograd.grad((by_row * ours).sum(), inputs), torch.autograd.grad((by_row * wanted).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(mine, right, rtol=0, atol=1e-9)


def test_heads_of_different_sizes_are_refused():
    head, states = head_and_states()
    with pytest.raises(InvalidArgument, match="different sizes"):
        full_divergence(states, head, WholeRows(torch.zeros(N, V + 1)), reverse_kl.summand, reverse_kl.EXACT)
    unbiased = reverse_kl.EXACT.model_copy(update={"unbiased": True})
    with pytest.raises(InvalidArgument, match="nothing is sampled"):
        full_divergence(states, head, WholeRows(torch.zeros(N, V)), reverse_kl.summand, unbiased)
