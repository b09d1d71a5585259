"""Signals of the automaton's states, in numpy: what a real engine's readout gives, from one table of log-probabilities.

Shapes: S states, V rows of the head, T tokenizer size, n rows, k top entries, d draws.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from preceptor.philox import teacher_uniform
from preceptor.types import Hidden, HiddenDtype, IdLogprobs, RaggedLogprobs, Rows, TailOf, Validity, Want
from preceptor_serving.engines.fake.model import F32, FakeModel, Index
from preceptor_serving.engines.plan import NO_TARGET, RowPlan

TAIL_CHUNK_ENTRIES = 1 << 22
LOWEST = -1e4  # exp of anything lower is 0 in f32, and 0 * -inf would be NaN
Excluded = list[tuple[Index, Index]]  # pairs of (row, id), flat


class Table:
    """Every state's log-probabilities under one temperature, and their order."""

    def __init__(self, model: FakeModel, temperature: float) -> None:
        self.model = model
        below_peak = (model.logits_SV - model.logits_SV.max(-1, keepdims=True)).astype(np.float64)
        with np.errstate(over="ignore"):  # in f64, so that the coldest temperature gives -inf, not NaN
            scaled = (below_peak / temperature).astype(np.float32)
        self.logprobs_SV: F32 = scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))

    @cached_property
    def order_ST(self) -> Index:
        """Ids by falling log-probability, equal ones by rising id."""
        return np.argsort(-self.logprobs_SV[:, : self.model.tokenizer_size], axis=-1, kind="stable")

    @cached_property
    def entropy_S(self) -> F32:
        finite = np.maximum(self.logprobs_SV, np.float32(LOWEST))
        return -(np.exp(finite) * finite).sum(-1)

    @cached_property
    def mass_ST(self) -> NDArray[np.float64]:
        """Cumulative probability of the real ids, in id order."""
        return np.cumsum(np.exp(self.logprobs_SV[:, : self.model.tokenizer_size].astype(np.float64)), -1)


def read_rows(table: Table, plan: RowPlan, states_n: Index, want: Want) -> Rows:
    """Everything that is wanted of the planned rows."""
    topk = _topk(table, states_n, want.topk) if want.topk else None
    samples = _samples(table, states_n, plan, want) if want.samples else None
    return Rows(
        start=plan.start,
        validity=np.full(len(plan), Validity.OK, np.uint8),
        sampled=_sampled(table, states_n, plan) if want.sampled else None,
        entropy=table.entropy_S[states_n] if want.entropy else None,
        tail=None if want.tail is TailOf.NONE else _tail(table, states_n, _excluded(plan, want, topk, samples)),
        topk=topk,
        candidates=_candidates(table, states_n, plan),
        samples=samples,
        hidden=_hidden(table.model, states_n) if want.hidden else None,
        has_next=plan.has_next,
    )


def _sampled(table: Table, states_n: Index, plan: RowPlan) -> F32:
    """Row R has no target: its value is NaN."""
    values = table.logprobs_SV[states_n, np.maximum(plan.targets, 0)]
    return np.where(plan.targets == NO_TARGET, np.float32(np.nan), values)


def _topk(table: Table, states_n: Index, k: int) -> IdLogprobs:
    ids_nk = table.order_ST[states_n, :k]
    return IdLogprobs(ids_nk.astype(np.uint32), table.logprobs_SV[states_n[:, None], ids_nk])


def _candidates(table: Table, states_n: Index, plan: RowPlan) -> RaggedLogprobs | None:
    if plan.candidates is None:
        return None
    states = np.repeat(states_n, np.diff(plan.candidates.offsets.astype(np.int64)))
    return RaggedLogprobs(plan.candidates.offsets, table.logprobs_SV[states, plan.candidates.ids])


def _samples(table: Table, states_n: Index, plan: RowPlan, want: Want) -> IdLogprobs:
    """By inverse CDF in id order, from the distribution given that the token is a real one."""
    uniform_nd = teacher_uniform(want.sample_seed, plan.rows, want.samples)
    mass_nT = table.mass_ST[states_n]
    wanted_nd = uniform_nd * mass_nT[:, -1:]
    ids_nd = np.array([np.searchsorted(mass, wanted, "right") for mass, wanted in zip(mass_nT, wanted_nd, strict=True)], np.int64)
    ids_nd = np.minimum(ids_nd.reshape(uniform_nd.shape), table.model.tokenizer_size - 1)
    return IdLogprobs(ids_nd.astype(np.uint32), table.logprobs_SV[states_n[:, None], ids_nd])


def _excluded(plan: RowPlan, want: Want, topk: IdLogprobs | None, samples: IdLogprobs | None) -> Excluded:
    """The ids that the tail leaves out."""
    union = want.tail is TailOf.UNION
    pairs: Excluded = []
    if topk is not None and (union or want.tail is TailOf.TOPK):
        pairs.append(_flat(topk))
    if plan.candidates is not None and (union or want.tail is TailOf.CANDIDATES):
        counts = np.diff(plan.candidates.offsets.astype(np.int64))
        pairs.append((np.repeat(np.arange(len(plan)), counts), plan.candidates.ids.astype(np.int64)))
    if union and samples is not None:
        pairs.append(_flat(samples))
    if union and want.sampled:
        with_target = np.flatnonzero(plan.targets != NO_TARGET)
        pairs.append((with_target, plan.targets[with_target]))
    return pairs


def _flat(lists: IdLogprobs) -> tuple[Index, Index]:
    rows, width = lists.ids.shape
    return np.repeat(np.arange(rows), width), lists.ids.astype(np.int64).ravel()


def _tail(table: Table, states_n: Index, excluded: Excluded) -> F32:
    """Log-sum-exp of what remains, some rows at a time; -inf where nothing does."""
    tail_n = np.empty(len(states_n), np.float32)
    step = max(1, TAIL_CHUNK_ENTRIES // table.model.head_rows)
    for start in range(0, len(states_n), step):
        rest_nV = table.logprobs_SV[states_n[start : start + step]].astype(np.float64)
        for rows, ids in excluded:
            here = (rows >= start) & (rows < start + step)
            rest_nV[rows[here] - start, ids[here]] = -np.inf
        tail_n[start : start + step] = _log_sum_exp(rest_nV)
    return tail_n


def _log_sum_exp(values_nV: NDArray[np.float64]) -> NDArray[np.float64]:
    peak_n = values_nV.max(-1)
    safe_n = np.where(np.isfinite(peak_n), peak_n, 0.0)
    with np.errstate(divide="ignore"):
        return safe_n + np.log(np.exp(values_nV - safe_n[:, None]).sum(-1))


def _hidden(model: FakeModel, states_n: Index) -> Hidden:
    return Hidden(model.states_Sh[states_n], HiddenDtype.F32, model.head_sha256)
