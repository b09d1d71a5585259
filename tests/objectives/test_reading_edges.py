"""What is read of a reply and of the student at its edges: missing lists, absent entries, tokens that stand in several lists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from preceptor.errors import InvalidArgument
from preceptor.recipes.ops.spec import NoParams
from preceptor.recipes.ops.support import SupportParams
from preceptor_student.objectives import OBJECTIVES, hidden, support
from preceptor_student.objectives.divergence import log_mixture, weighted_log
from preceptor_student.objectives.signals import ItemScores
from preceptor_student.objectives.student import Asked, read_rows

REPLY = ItemScores(
    np.ones(2, bool),
    np.array([1, 2]),
    sampled_r=np.array([-1.0, -2.0]),
    topk_ids_rk=np.array([[0, 1], [0, 1]]),
    topk_rk=np.array([[-0.5, -1.0], [-0.5, -1.0]]),
    listed_ids_rc=np.array([[3, 1], [2, 0]]),
    listed_rc=np.array([[-3.0, -1.0], [-2.0, -0.5]]),
    listed_there_rc=np.array([[True, True], [True, True]]),
    tail_r=np.array([-4.0, -4.0]),
)
EVERY = SupportParams(teacher_topk=2, student_topk=2)


def columns(scores, params=EVERY):
    found = support.read(scores, params).support
    assert found is not None
    return found


def test_each_token_stands_once_where_it_stood_first_and_what_is_absent_holds_zeros():
    """Order of the lists: drawn, top, listed. Token 1 is in all three, token 0 of the second row in two."""
    found = columns(REPLY)
    assert found.there_rs.tolist() == [[True, True, False, True, False], [True, True, True, False, False]]
    assert found.ids_rs.tolist() == [[1, 0, 0, 3, 0], [2, 0, 1, 0, 0]]
    assert found.teacher_rs.tolist() == [[-1.0, -0.5, 0.0, -3.0, 0.0], [-2.0, -0.5, -1.0, 0.0, 0.0]]
    assert found.top_rs.tolist() == [[True, True, False, False, False], [False, True, True, False, False]]


def test_an_absent_entry_hides_no_token_and_is_no_member():
    """Padding may hold any id, and may stand before an entry that is there."""
    gaps = np.array([[False, True], [False, True]])
    scores = replace(REPLY, listed_ids_rc=np.array([[1, 1], [0, 3]]), listed_there_rc=gaps)
    found = columns(scores, SupportParams(student_topk=2, sampled=False))
    assert found.there_rs.tolist() == [[False, True], [False, True]]
    assert found.ids_rs[:, 1].tolist() == [1, 3]
    both = SupportParams(teacher_topk=2, student_topk=2, combine="intersection", sampled=False)
    assert columns(scores, both).there_rs.tolist() == [[False, True, False, False], [False, False, False, False]]


@pytest.mark.parametrize("column", ["sampled_r", "topk_rk", "listed_rc", "tail_r"])
def test_a_list_that_was_asked_for_and_did_not_come_makes_every_row_invalid(column):
    assert support.read(REPLY, EVERY).valid_r.all()
    found = support.read(replace(REPLY, **{column: None}), EVERY)
    assert not found.valid_r.any()
    assert found.support is not None
    width = {"sampled_r": 5, "topk_rk": 4, "listed_rc": 4, "tail_r": 5}[column]
    assert found.support.ids_rs.shape == (2, width), "one column stands for a list that did not come"


def test_a_top_k_of_another_width_is_an_error_that_names_both():
    with pytest.raises(InvalidArgument) as refused:
        support.read(REPLY, SupportParams(teacher_topk=3))
    assert (refused.value.value, refused.value.limit) == ("2", "3")


# ---------------------------------------------------------------- zeros of the teacher


def impossible(**more):
    """The drawn token of the only row is impossible; the tail is not."""
    top, tail = (np.array([[0]]), np.array([[-0.5]])), np.array([-0.9])
    return replace(ItemScores(np.ones(1, bool), np.array([2]), np.array([-np.inf]), *top, tail_r=tail), **more)


def test_a_draw_that_is_no_part_of_the_support_does_not_make_it_infinite():
    """Another term asked for the drawn token; on top and tail the divergence is finite. Scored apart, it corrects the tail."""
    usable = OBJECTIVES["reverse_kl"].usable
    assert usable(support.read(impossible(), SupportParams(teacher_topk=1, sampled=False)), 4).tolist() == [True]
    assert usable(support.read(impossible(), SupportParams(teacher_topk=1, sampled="apart")), 4).tolist() == [False]
    bare = support.read(impossible(sampled_r=None), SupportParams(teacher_topk=1, sampled="apart"))
    assert usable(bare, 4).shape == (1,)
    assert not bare.valid_r.any()


def test_a_zero_of_the_teacher_adds_nothing_and_moves_nothing():
    student = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([-torch.inf, -1.5], dtype=torch.float64)
    found = weighted_log(teacher, lambda log_q: log_q - student)
    assert found[0].item() == 0.0
    assert found[1].item() == pytest.approx(np.exp(-1.5) * 0.5)
    (slope,) = torch.autograd.grad(found.sum(), student)
    assert slope.tolist() == pytest.approx([0.0, -np.exp(-1.5)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("student", "teacher"), [(-1.0, -1.0), (-1.0, -2.0), (-2.0, -1.0), (-80.0, -1.0), (-1.0, -80.0)])
def test_a_mixture_and_its_slope(share, student, teacher):
    p = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    found = log_mixture(torch.tensor(teacher, dtype=torch.float64), p, share)
    mixed = share * np.exp(teacher) + (1 - share) * np.exp(student)
    assert found.item() == pytest.approx(np.log(mixed), abs=1e-13)
    (slope,) = torch.autograd.grad(found, p)
    assert slope.item() == pytest.approx((1 - share) * np.exp(student) / mixed, rel=1e-9)


# ---------------------------------------------------------------- the student


TABLE = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=torch.float64).log()


def test_who_asks_for_the_drawn_token_alone_gets_no_list_no_tail_and_no_top():
    found = read_rows(TABLE, Asked(torch.tensor([0, 2])))
    assert found.sampled_n.exp().tolist() == pytest.approx([0.5, 0.7])
    assert (found.listed_ns.shape, found.observed.top_ids_nk.shape) == ((2, 0), (2, 0))
    assert found.tail_n.tolist() == [0.0, 0.0]
    assert found.open_n.tolist() == [False, False]


@pytest.mark.parametrize("tail", [True, False])
def test_absent_entries_and_tails_that_nobody_has_are_zero(tail):
    """The second row lists all three tokens: it has no outside."""
    there = torch.tensor([[True, False, False], [True, True, True]])
    found = read_rows(TABLE, Asked(torch.tensor([0, 2]), torch.tensor([[1, 1, 0], [0, 1, 2]]), there, tail=tail, top=2))
    assert found.listed_ns.tolist()[0] == pytest.approx([np.log(0.3), 0.0, 0.0])
    assert found.listed_ns.exp().tolist()[1] == pytest.approx([0.1, 0.2, 0.7])
    assert found.tail_n.tolist() == pytest.approx([np.log(0.7) if tail else 0.0, 0.0])
    assert found.observed.top_ids_nk.tolist() == [[0, 1], [2, 1]]


def test_a_state_counts_where_its_row_was_scored_and_every_number_of_it_is_finite():
    states_rh = np.array([[0.5, 1.0], [np.nan, 1.0], [0.5, np.inf], [0.5, 1.0]])
    reply = ItemScores(np.array([True, True, True, False]), np.arange(4), hidden_rh=states_rh, head_sha256=b"head")
    found = hidden.read(reply, NoParams())
    assert found.valid_r.tolist() == [True, False, False, False]
    assert found.hidden_rh is states_rh
    assert found.head_sha256 == b"head"
    assert hidden.read(replace(reply, hidden_rh=None), NoParams()).valid_r.tolist() == [False] * 4
