"""Items to outcomes on one version of the weights: plans, batches, forward passes, readouts, receipts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from preceptor.errors import Internal, PreceptorError
from preceptor.types import ModelInfo, Receipt, Rows, Scored, TimeSplit
from preceptor_serving.engines.plan import plan_item
from preceptor_serving.engines.protocol import Outcome, ScoreItem
from preceptor_teacher.engines.hf.answer import Planned, answer, answer_on_grid, rows_of
from preceptor_teacher.engines.hf.cells import Cell, forward_cells
from preceptor_teacher.engines.hf.forward import KeyValues, Piece, forward
from preceptor_teacher.engines.hf.load import LoadedModel
from preceptor_teacher.engines.hf.states import StateStore
from preceptor_teacher.grid import CELL_TOKENS, complete_tokens
from preceptor_teacher.growing import Growth
from preceptor_teacher.readout import readout

PAST_PER_NEW = 8  # a past token costs a forward pass about this many times less than a new one


@dataclass(frozen=True, slots=True)
class Job:
    """One item to score; `growth` is None for a sequence that is sent once."""

    item: ScoreItem
    growth: Growth | None = None


@dataclass(slots=True)
class _Work:
    """A job on its way through: what is planned, what of its prefix is known, what came out."""

    index: int
    job: Job
    planned: Planned
    past: KeyValues | None

    @property
    def piece(self) -> Piece:
        start = 0 if self.past is None else self.past.tokens
        return Piece(self.job.item.sequence.ids[start : self.planned.tokens], self.past)


class Scorer:
    """Scores under one version; `states` is shared by all calls of it."""

    def __init__(self, model: LoadedModel, info: ModelInfo, states: StateStore, batch_tokens: int) -> None:
        self.model, self.info = model, info
        self._states = states
        self._batch_tokens = batch_tokens

    def score(self, jobs: Sequence[Job]) -> list[Outcome]:
        """One outcome for each job, in order. Where a growing deterministic task ends in a partial cell, fewer rows."""
        outcomes: dict[int, Outcome] = {}
        together: list[_Work] = []
        for index, job in enumerate(jobs):
            try:
                planned = self._plan(job)
            except PreceptorError as error:
                outcomes[index] = error
                continue
            if not len(planned.plan):
                outcomes[index] = self._empty(planned)
            elif job.item.want.deterministic:
                outcomes[index] = self._on_grid(job, planned)
            else:
                together.append(_Work(index, job, planned, self._known(job, planned)))
        for batch in batches(together, self._batch_tokens):
            self._score_batch(batch, outcomes)
        return [outcomes[index] for index in range(len(jobs))]

    def _plan(self, job: Job) -> Planned:
        planned = Planned(plan_item(job.item, self.info), job.item.want)
        if not (job.item.want.deterministic and job.growth is not None and job.growth.open):
            return planned
        ready = complete_tokens(len(job.item.sequence.ids))
        return planned.cut(int((planned.plan.prefix_tokens <= ready).sum()))

    # ---- batches

    def _known(self, job: Job, planned: Planned) -> KeyValues | None:
        if job.growth is None or not self.model.keeps_states:
            return None
        key = (job.growth.scope, job.growth.task)
        return self._states.find(key, job.item.sequence.ids[: planned.first_state])

    def _score_batch(self, batch: Sequence[_Work], outcomes: dict[int, Outcome]) -> None:
        began = time.perf_counter()
        pieces = [work.piece for work in batch]
        keep = [work.job.growth is not None and self.model.keeps_states for work in batch]
        done = forward(self.model.base, pieces, self.model.device, keep=keep)
        rows = [_states_of(work, states) for work, states in zip(batch, done.states, strict=True)]
        self._finish_kernels()
        prefilled = time.perf_counter()
        answers = answer(self.model, [work.planned for work in batch], rows)
        split = TimeSplit(prefill_s=prefilled - began, readout_s=time.perf_counter() - prefilled)
        for work, piece, kept, got in zip(batch, pieces, done.key_values, answers, strict=True):
            if kept is not None and work.job.growth is not None:
                ids = work.job.item.sequence.ids[: work.planned.tokens]
                self._states.put((work.job.growth.scope, work.job.growth.task), ids, kept)
            outcomes[work.index] = self._outcome(work.job, work.planned, got, len(piece.ids), piece.past_tokens, split)

    def _finish_kernels(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)

    # ---- deterministic mode

    def _on_grid(self, job: Job, planned: Planned) -> Outcome:
        began, ids, growth = time.perf_counter(), job.item.sequence.ids, job.growth
        tokens = min(planned.tokens + -planned.tokens % CELL_TOKENS, len(ids))
        key = None if growth is None or not self.model.keeps_states else (f"{growth.scope}\0cells", growth.task)
        past = None if key is None else self._states.find(key, ids[: planned.first_state], grid=CELL_TOKENS)
        reused = 0 if past is None else past.tokens
        needed: list[Cell] = []
        for cell in forward_cells(self.model, ids[:tokens], past):
            past = cell.complete
            if cell.start + CELL_TOKENS > planned.first_state:
                needed.append(cell)
        if key is not None and past is not None:
            self._states.put(key, ids[: past.tokens], past)
        prefilled = time.perf_counter()
        got = answer_on_grid(self.model, planned, needed)
        split = TimeSplit(prefill_s=prefilled - began, readout_s=time.perf_counter() - prefilled)
        return self._outcome(job, planned, got, tokens - reused, reused, split)

    # ---- results

    def _empty(self, planned: Planned) -> Scored:
        rows = rows_of(self.model, planned, readout(self._no_states(), self.model.head, planned.spec()), 0, 0, self._no_states())
        return Scored(rows, self._receipt(planned, 0, 0, 0, TimeSplit()))

    def _no_states(self) -> Tensor:
        return self.model.head.weight_vh.new_empty(0, self.model.head.weight_vh.shape[1])

    def _outcome(self, job: Job, planned: Planned, got: Rows | Internal, computed: int, reused: int, split: TimeSplit) -> Outcome:
        if isinstance(got, Internal):
            return got
        continued = job.growth is not None and planned.plan.start > 0
        again = max(0, planned.first_state - reused) if continued else 0
        return Scored(got, self._receipt(planned, computed, reused, again, split))

    def _receipt(self, planned: Planned, computed: int, reused: int, again: int, split: TimeSplit) -> Receipt:
        return replace(
            Receipt.of(self.info),
            temperature=planned.want.temperature,
            tokens_computed=computed,
            tokens_reused=reused,
            tokens_recomputed=again,
            time=split,
        )


def batches(works: Sequence[_Work], budget_tokens: int) -> Iterator[list[_Work]]:
    """Length-sorted, each within the budget of padded tokens, or of one item."""
    batch: list[_Work] = []
    for work in sorted(works, key=lambda w: len(w.piece.ids)):
        if batch and _padded_tokens([*batch, work]) > budget_tokens:
            yield batch
            batch = []
        batch.append(work)
    if batch:
        yield batch


def _padded_tokens(batch: Sequence[_Work]) -> int:
    new, past = max(len(w.piece.ids) for w in batch), max(w.piece.past_tokens for w in batch)
    return len(batch) * (new + past // PAST_PER_NEW)


def _states_of(work: _Work, states: Tensor) -> Tensor:
    """The states that predict the planned rows, of those of the piece."""
    at = torch.from_numpy(work.planned.plan.prefix_tokens - 1 - work.piece.past_tokens)
    return states[at.to(states.device)]
