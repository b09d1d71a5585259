"""Hidden states of planned rows to typed rows, for every engine that has states: items that want the same signals share one
readout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.errors import Internal
from preceptor.types import Hidden, HiddenDtype, IdLogprobs, RaggedIds, RaggedLogprobs, Rows, Validity, Want
from preceptor_serving.engines.plan import RowPlan
from preceptor_teacher.readout import Head, ReadoutRows, RowSpec, Signals, readout

HIDDEN_DTYPES = {torch.float32: HiddenDtype.F32, torch.float16: HiddenDtype.F16, torch.bfloat16: HiddenDtype.BF16}


class Headed(Protocol):
    """A model, as far as its states become rows by it."""

    @property
    def head(self) -> Head: ...

    @property
    def head_sha256(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Planned:
    """The rows of one item, and what is wanted of them."""

    plan: RowPlan
    want: Want

    @property
    def first_state(self) -> int:
        """Index of the first token whose state is read."""
        return int(self.plan.prefix_tokens[0]) - 1

    @property
    def tokens(self) -> int:
        """How many tokens have to be read."""
        return int(self.plan.prefix_tokens[-1])

    def cut(self, rows: int) -> Planned:
        """The first rows of it."""
        plan = self.plan
        if rows == len(plan):
            return self
        lists = None if plan.candidates is None else plan.candidates.rows_between(0, rows)
        shorter = replace(
            plan, prefix_tokens=plan.prefix_tokens[:rows], targets=plan.targets[:rows], has_next=False, candidates=lists
        )
        return Planned(shorter, self.want)

    @property
    def signals(self) -> Signals:
        want = self.want
        return Signals(want.sampled, want.topk, want.entropy, want.tail, want.samples, want.temperature)

    def spec(self) -> RowSpec:
        plan = self.plan
        seeds = np.full(len(plan), self.want.sample_seed, np.uint64)
        return RowSpec(self.signals, plan.targets, plan.candidates, seeds, plan.rows)


def answer(model: Headed, items: Sequence[Planned], states: Sequence[Tensor]) -> list[Rows | Internal]:
    """The rows of each item from the states [rows, h] that predict them."""
    out: list[Rows | Internal] = [not_finite()] * len(items)
    groups: dict[tuple[Signals, bool], list[int]] = {}
    finite = torch.stack([torch.isfinite(one).all() for one in states]).tolist() if states else []  # one wait for all items
    for index, item in enumerate(items):
        if finite[index]:
            groups.setdefault((item.signals, item.plan.candidates is not None), []).append(index)
    for members in groups.values():
        specs = [items[i].spec() for i in members]
        got = readout(torch.cat([states[i] for i in members]), model.head, _joined(specs))
        starts = np.cumsum([0, *(len(spec) for spec in specs)])
        for at, index in zip(starts, members, strict=False):
            out[index] = rows_of(model, items[index], got, int(at), _entries_before(specs, members, index), states[index])
    return out


def rows_of(model: Headed, item: Planned, got: ReadoutRows, start: int, entry: int, states: Tensor) -> Rows:
    """One item's part of a readout: its rows begin at `start`, its candidates at `entry`."""
    part, lists = slice(start, start + len(item.plan)), item.plan.candidates
    candidates = None
    if lists is not None and got.candidates is not None:
        candidates = RaggedLogprobs(lists.offsets, got.candidates[entry : entry + len(lists.ids)])
    return Rows(
        start=item.plan.start,
        validity=np.full(len(item.plan), Validity.OK, np.uint8),
        sampled=_cut(got.sampled, part),
        entropy=_cut(got.entropy, part),
        tail=_cut(got.tail, part),
        topk=_cut_lists(got.topk, part),
        candidates=candidates,
        samples=_cut_lists(got.samples, part),
        hidden=_hidden(states, model.head_sha256) if item.want.hidden else None,
        has_next=item.plan.has_next,
    )


def _joined(specs: Sequence[RowSpec]) -> RowSpec:
    if len(specs) == 1:
        return specs[0]
    lists = [spec.candidates for spec in specs if spec.candidates is not None]
    return RowSpec(
        specs[0].signals,
        np.concatenate([spec.targets for spec in specs]),
        _joined_lists(lists) if lists else None,
        np.concatenate([spec.seeds for spec in specs if spec.seeds is not None]),
        np.concatenate([spec.rows for spec in specs if spec.rows is not None]),
    )


def _joined_lists(lists: Sequence[RaggedIds]) -> RaggedIds:
    counts = np.concatenate([np.diff(one.offsets.astype(np.int64)) for one in lists])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    return RaggedIds(offsets, np.concatenate([one.ids for one in lists]))


def _entries_before(specs: Sequence[RowSpec], members: Sequence[int], index: int) -> int:
    before = specs[: members.index(index)]
    return sum(len(spec.candidates.ids) for spec in before if spec.candidates is not None)


def _cut(column: NDArray[np.float32] | None, part: slice) -> NDArray[np.float32] | None:
    return None if column is None else column[part]


def _cut_lists(lists: IdLogprobs | None, part: slice) -> IdLogprobs | None:
    return None if lists is None else IdLogprobs(lists.ids[part], lists.logprobs[part])


def _hidden(states: Tensor, head_sha256: bytes) -> Hidden:
    raw = states.cpu().contiguous()
    dtype = HIDDEN_DTYPES[raw.dtype]
    array = raw.view(torch.uint16).numpy() if dtype is HiddenDtype.BF16 else raw.numpy()
    return Hidden(array, dtype, head_sha256)


def not_finite() -> Internal:
    return Internal(
        "the model's hidden states are not finite for this sequence",
        field="sequence",
        hint="weights that overflow in f16 often do not in bf16 or f32: change the teacher's dtype",
    )
