"""Monitors against plain float64 sums over whole small vocabularies: on chosen rows only, and however the rows are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preceptor_student.batch import Item
from preceptor_student.monitors import Means, item_means, watch_rows
from tests.unit.preceptor_student.scoring import support_rows, table_scores

V, TOPK = 9, 3
CASES = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))


def tables(seed: int, count: int):
    """Log-probabilities of both sides, the drawn tokens, the student's listed ones, and which rows count."""
    rng = np.random.default_rng(seed)
    student, teacher = (torch.from_numpy(rng.normal(scale=2, size=(count, V))).log_softmax(-1) for _ in range(2))
    drawn = rng.integers(0, V, count)
    counts = rng.random(count) < 0.7
    counts[rng.integers(count)] = True  # a step without a row has no monitors
    return student, teacher, drawn, student.topk(TOPK, dim=1).indices.numpy(), counts


def watched(parts, student, teacher, drawn, listed):
    means = Means()
    for part in parts:
        scores = table_scores(teacher[part].numpy(), drawn[part], TOPK, listed[part])
        watch_rows(support_rows(student[part], scores), means)
    return means.means()


def oracle(student, teacher, drawn, listed, rows):
    """One row after the other, from whole distributions."""
    sums = {name: [] for name in ("student_entropy", "reverse_kl", "entropy_gap", "student_tail_mass", "teacher_tail_mass")}
    shared, advantages = [], []
    for r in rows:
        p, q = (side[r].exp().numpy() for side in (student, teacher))
        top = set(np.argsort(-q, kind="stable")[:TOPK].tolist())
        members = sorted(top | set(listed[r].tolist()) | {int(drawn[r])})
        outside = [v for v in range(V) if v not in members]
        sides = [np.append(one[members], one[outside].sum()) if outside else one[members] for one in (p, q)]
        entropies = [float(-(one * np.log(one)).sum()) for one in sides]
        sums["student_entropy"].append(float(-(p * np.log(p)).sum()))
        sums["reverse_kl"].append(float((sides[0] * np.log(sides[0] / sides[1])).sum()))
        sums["entropy_gap"].append(entropies[0] - entropies[1])
        sums["student_tail_mass"].append(float(p[outside].sum()))
        sums["teacher_tail_mass"].append(float(q[outside].sum()))
        own = set(np.argsort(-p, kind="stable")[:TOPK].tolist())
        shared += [v in own for v in top]
        advantages += [p[v] * np.log(q[v] / p[v]) for v in top & own]
    found = {name: float(np.mean(values)) for name, values in sums.items()} | {"topk_overlap": float(np.mean(shared))}
    return found | ({"overlap_advantage": float(np.mean(advantages))} if advantages else {})


@given(CASES)
def test_every_monitor_of_a_support_is_its_mean_over_the_rows_that_count(case) -> None:
    seed, count, pieces = case
    student, teacher, drawn, listed, counts = tables(seed, count)
    rows = np.flatnonzero(counts)
    found = watched([part for part in np.array_split(rows, pieces) if len(part)], student, teacher, drawn, listed)
    wanted = oracle(student, teacher, drawn, listed, rows)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=9))
def test_length_and_truncation_count_rollouts(lengths) -> None:
    items = [Item(np.arange(rows + 1), np.arange(1, rows + 1), "s", "g", 1.0, cut, {}) for rows, cut in lengths]
    found = item_means(items)
    assert found["mean_response_tokens"] == pytest.approx(sum(rows for rows, _ in lengths) / len(lengths))
    assert found["truncation_rate"] == pytest.approx(sum(cut for _, cut in lengths) / len(lengths))
