"""One loss, forward and backward: its inputs, our way in chunks, and the plain way over all logits at once.

Shapes: n rows, h hidden size, v vocabulary, k entries of each list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from preceptor_serving.models.vocabulary_head import Head as TeacherHead
from preceptor_student.full import Behind, HiddenStates, Teacher, Whole, WholeRows
from preceptor_student.head import Head
from preceptor_student.objectives import reverse_kl
from preceptor_student.objectives.rows import Support, TermRows
from preceptor_student.objectives.student import Asked, read_rows
from preceptor_student.reading import Lookup, read_student

TOPK = 64
FORMS = ("lists", "states", "rows")


@dataclass(frozen=True, slots=True)
class Case:
    """The student's final states and head, and one form of what a teacher gives; f32."""

    states_nh: Tensor
    weight_vh: Tensor
    targets_n: Tensor
    support: Support | None = None
    teacher: Teacher | None = None
    teacher_bytes: int = 0

    @property
    def own_bytes(self) -> int:
        """Inputs, and the gradients of states and head."""
        return 2 * (_bytes(self.states_nh) + _bytes(self.weight_vh)) + _bytes(self.targets_n) + self.teacher_bytes


def own_bytes_of(form: str, n: int, v: int, h: int) -> int:
    """About `own_bytes` of a case, before it is made; lists are small beside the head."""
    theirs = {"lists": 0, "states": n * h + v * h, "rows": n * v}[form]
    return 4 * (2 * (n * h + v * h) + theirs)


def make_case(form: str, n: int, v: int, h: int) -> Case:
    """Random weights that give a peaked distribution, so that supports and tails are of a usual size."""
    generator = torch.Generator().manual_seed(0)
    states_nh = torch.randn(n, h, generator=generator)
    weight_vh = torch.randn(v, h, generator=generator).mul_(3 * h**-0.5)
    targets_n = torch.randint(0, v, (n,), generator=generator)
    student = Case(states_nh.requires_grad_(), weight_vh.requires_grad_(), targets_n)
    match form:
        case "lists":
            support = _support(targets_n, v, generator)
            columns = (support.ids_ns, support.present_ns, support.teacher_ns, support.top_ns)
            return Case(student.states_nh, student.weight_vh, targets_n, support, None, sum(map(_bytes, columns)))
        case "states":
            states, weight = torch.randn(n, h, generator=generator), torch.randn(v, h, generator=generator).mul_(3 * h**-0.5)
            theirs = HiddenStates(states, [Behind(slice(0, n), TeacherHead(weight, v))])
            size = _bytes(states) + _bytes(weight)
            return Case(student.states_nh, student.weight_vh, targets_n, None, theirs, size)
        case _:
            scores = torch.randn(n, v, generator=generator).mul_(3)
            for part in scores.split(16):  # in place: the table is an input, its making is not
                part.sub_(part.logsumexp(1, keepdim=True))
            return Case(student.states_nh, student.weight_vh, targets_n, None, WholeRows(scores), _bytes(scores))


def _support(targets_n: Tensor, v: int, generator: torch.Generator) -> Support:
    """Teacher top 64, student top 64 and the drawn token, all different."""
    width = min(2 * TOPK, v // 2 - 1)
    ids_ns = (targets_n[:, None] + torch.arange(width + 1) * (v // (width + 1))) % v
    logits_ns = torch.randn(len(targets_n), width + 2, generator=generator).mul_(2).log_softmax(1)
    present_ns, top_ns = torch.ones_like(ids_ns, dtype=torch.bool), torch.zeros_like(ids_ns, dtype=torch.bool)
    top_ns[:, 1 : 1 + TOPK] = True
    return Support(ids_ns, present_ns, logits_ns[:, :-1].contiguous(), logits_ns[:, -1].contiguous(), top_ns)


def chunked(case: Case) -> float:
    """Our way: the reverse KL of the trainer, and its gradients."""
    head = Head(case.weight_vh)
    if case.teacher is not None:
        whole = Whole(case.teacher, reverse_kl.summand, reverse_kl.EXACT)
        return _backward(divergence_of(case.states_nh, head, whole, case.targets_n))
    lookup = Lookup(np.arange(len(case.targets_n)), _asked(case))
    (student,) = read_student(case.states_nh, head, [lookup])
    return _backward(reverse_kl.loss(TermRows(student, case.targets_n, support=case.support), reverse_kl.EXACT))


def divergence_of(states_nh: Tensor, head: Head, whole: Whole, targets_n: Tensor, chunk_rows: int | None = None) -> Tensor:
    """Nats of each row over every token, as the trainer takes it."""
    lookup = Lookup(np.arange(len(targets_n)), Asked(targets_n), whole)
    (student,) = read_student(states_nh, head, [lookup], chunk_rows)
    assert student.compared is not None, "what compares every token was given"
    return student.compared.nats_n


def plain(case: Case) -> float:
    """All logits at once, as a trainer does that calls the model and then a loss."""
    head = Head(case.weight_vh)
    student_nv = head.log_probs(head.product(case.states_nh))
    if case.teacher is not None:
        teacher_nv, _ = case.teacher.log_probs(slice(0, len(student_nv)))
        return _backward((student_nv.exp() * (student_nv - teacher_nv)).sum(1))
    student = read_rows(student_nv, _asked(case))
    return _backward(reverse_kl.loss(TermRows(student, case.targets_n, support=case.support), reverse_kl.EXACT))


WAYS: dict[str, Callable[[Case], float]] = {"chunked": chunked, "plain": plain}


def _asked(case: Case) -> Asked:
    assert case.support is not None, "only lists are looked up"
    return Asked(case.targets_n, case.support.ids_ns, case.support.present_ns, tail=True, top=TOPK)


def _backward(loss_n: Tensor) -> float:
    loss = loss_n.mean()
    loss.backward()
    return loss.item()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
