"""Items to outcomes on one version of the weights: plans, batches, forward passes, readouts, receipts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from preceptor.errors import Internal, PreceptorError
from preceptor.types import Ids, ModelInfo, Receipt, Rows, Scored, TimeSplit
from preceptor_serving.engines.plan import plan_item
from preceptor_serving.engines.protocol import Outcome
from preceptor_teacher.engines.hf.answer import Planned, answer, answer_on_grid, rows_of
from preceptor_teacher.engines.hf.cells import read_cells
from preceptor_teacher.engines.hf.forward import Forwarded, KeyValues, Piece, forward
from preceptor_teacher.engines.hf.load import LoadedModel
from preceptor_teacher.engines.hf.memory import does_not_fit, if_it_fits
from preceptor_teacher.engines.hf.sharing import Trunk, find_trunks
from preceptor_teacher.engines.hf.states import StateStore
from preceptor_teacher.engines.hf.work import Job, Lead, Work, batches
from preceptor_teacher.grid import CELL_TOKENS, complete_tokens
from preceptor_teacher.readout import readout

T = TypeVar("T")


@dataclass(slots=True)
class _Shared:
    """A prefix that several works start with, on its way through a pass of its own."""

    works: list[Work]
    piece: Piece

    def lent(self) -> bool:
        """Whether one of them knows all of it; the others begin from what it knows then."""
        if len(self.piece.ids):
            return False
        for work in self.works:
            work.past = self.piece.past
        return True


class Scorer:
    """Scores under one version; `states` is shared by all calls of it."""

    def __init__(self, model: LoadedModel, info: ModelInfo, states: StateStore, batch_tokens: int) -> None:
        self.model, self.info = model, info
        self._states = states
        self._batch_tokens = batch_tokens

    def score(self, jobs: Sequence[Job]) -> list[Outcome]:
        """One outcome for each job, in order. Where a growing deterministic task ends in a partial cell, fewer rows."""
        outcomes: dict[int, Outcome] = {}
        together: list[Work] = []
        passing = StateStore(self._states.max_tokens)  # of sequences that leave nothing behind
        for index, job in enumerate(jobs):
            try:
                planned = self._plan(job)
            except PreceptorError as error:
                outcomes[index] = error
                continue
            if not len(planned.plan):
                outcomes[index] = self._empty(planned)
            elif job.item.want.deterministic:
                outcomes[index] = self._alone_on_grid(job, planned, passing)
            else:
                together.append(Work(index, job, planned, self._known(job, planned)))
        self._share_prefixes(together)
        for batch in batches(together, self._batch_tokens):
            outcomes |= self._score_batch(batch)
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

    def _share_prefixes(self, works: Sequence[Work]) -> None:
        """Reads what several sequences of one scope start with once for all of them, the outermost prefixes first."""
        scopes: dict[str, list[Work]] = {}
        for work in works:
            if work.job.growth is not None and self.model.keeps_states:
                scopes.setdefault(work.job.growth.scope, []).append(work)
        while scopes:
            found = {scope: _shared_of(members) for scope, members in scopes.items()}
            unread = [shared for each in found.values() for shared in each if not shared.lent()]
            for batch in batches(unread, self._batch_tokens):
                self._read_shared(batch)
            scopes = {scope: [work for work in scopes[scope] if not work.apart] for scope, each in found.items() if each}

    def _read_shared(self, batch: Sequence[_Shared]) -> None:
        began = time.perf_counter()
        done = if_it_fits(lambda: self._forward([shared.piece for shared in batch], [True] * len(batch)), self.model.device)
        if done is None:
            self._read_fewer(batch)
            return
        spent_s = time.perf_counter() - began
        for shared, known in zip(batch, done.key_values, strict=True):
            for work in shared.works:
                work.past = known
            shared.works[0].lead += Lead(len(shared.piece.ids), spent_s / len(batch))

    def _read_fewer(self, batch: Sequence[_Shared]) -> None:
        """After all at once did not fit. A prefix that does not fit by itself is not shared."""
        for half in _halves(batch) if len(batch) > 1 else ():
            self._read_shared(half)
        for work in batch[0].works if len(batch) == 1 else ():
            work.apart = True

    def _score_batch(self, batch: Sequence[Work]) -> dict[int, Outcome]:
        """As many at once as fit; what does not fit alone, with nothing kept beside it, is refused alone."""
        got = if_it_fits(lambda: self._read_batch(batch), self.model.device)
        if got is not None:
            return got
        if len(batch) > 1:
            return {index: outcome for half in _halves(batch) for index, outcome in self._score_batch(half).items()}
        if _forgot(self._states):
            return self._score_batch(batch)
        return {batch[0].index: does_not_fit(batch[0].planned, self.model.device)}

    def _read_batch(self, batch: Sequence[Work]) -> dict[int, Outcome]:
        began, outcomes = time.perf_counter(), dict[int, Outcome]()
        keep = [work.job.kept and self.model.keeps_states for work in batch]
        done = self._forward([work.piece for work in batch], keep)
        rows = [_states_of(work, states) for work, states in zip(batch, done.states, strict=True)]
        prefilled = time.perf_counter()
        answers = answer(self.model, [work.planned for work in batch], rows)
        split = TimeSplit(prefill_s=prefilled - began, readout_s=time.perf_counter() - prefilled)
        for work, kept, got in zip(batch, done.key_values, answers, strict=True):
            computed, reused = len(work.piece.ids) + work.lead.tokens, work.known - work.lead.tokens
            if kept is not None and work.job.growth is not None:
                ids = work.job.item.sequence.ids[: work.planned.tokens]
                self._states.put((work.job.growth.scope, work.job.growth.task), ids, kept)
            spent = replace(split, prefill_s=split.prefill_s + work.lead.seconds)
            outcomes[work.index] = self._outcome(work.job, work.planned, got, computed, reused, spent)
        return outcomes

    def _forward(self, pieces: Sequence[Piece], keep: Sequence[bool]) -> Forwarded:
        """Returns when it is computed, so that its time is its own."""
        done = forward(self.model.base, pieces, self.model.device, keep=keep)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)
        return done

    # ---- deterministic mode

    def _alone_on_grid(self, job: Job, planned: Planned, passing: StateStore) -> Outcome:
        """The same for one sequence, which is alone in its passes anyway."""
        got = if_it_fits(lambda: self._on_grid(job, planned, passing), self.model.device)
        if got is None and _forgot(self._states, passing):
            return self._alone_on_grid(job, planned, passing)
        return got or does_not_fit(planned, self.model.device)

    def _on_grid(self, job: Job, planned: Planned, passing: StateStore) -> Outcome:
        began, ids, growth = time.perf_counter(), job.item.sequence.ids, job.growth
        ids = ids[: planned.tokens + -planned.tokens % CELL_TOKENS]
        key = None if growth is None or not self.model.keeps_states else (f"{growth.scope}\0cells", growth.task)
        stores = (self._states,) if job.kept else (self._states, passing)
        found = [] if key is None else [store.find(key, ids, grid=CELL_TOKENS) for store in stores]
        past = max((known for known in found if known is not None), key=lambda known: known.tokens, default=None)
        reused = 0 if past is None else past.tokens
        read = read_cells(self.model, ids, past, planned.first_state)
        # Nothing new, nothing kept: a part of another task's tensors would keep all of them in memory, uncounted.
        if key is not None and read.complete is not None and read.complete is not past:
            stores[-1].put(key, ids[: read.complete.tokens], read.complete)
        prefilled = time.perf_counter()
        got = answer_on_grid(self.model, planned, read.cells)
        split = TimeSplit(prefill_s=prefilled - began, readout_s=time.perf_counter() - prefilled)
        return self._outcome(job, planned, got, len(ids) - reused, reused, split)

    # ---- results

    def _empty(self, planned: Planned) -> Scored:
        rows = rows_of(self.model, planned, readout(self._no_states(), self.model.head, planned.spec()), 0, 0, self._no_states())
        return Scored(rows, self._receipt(planned, 0, 0, 0, TimeSplit()))

    def _no_states(self) -> Tensor:
        return self.model.head.weight_vh.new_empty(0, self.model.head.weight_vh.shape[1])

    def _outcome(self, job: Job, planned: Planned, got: Rows | Internal, computed: int, reused: int, split: TimeSplit) -> Outcome:
        if isinstance(got, Internal):
            return got
        return Scored(got, self._receipt(planned, computed, reused, _read_again(job, planned, reused), split))

    def _receipt(self, planned: Planned, computed: int, reused: int, again: int, split: TimeSplit) -> Receipt:
        return replace(
            Receipt.of(self.info),
            temperature=planned.want.temperature,
            tokens_computed=computed,
            tokens_reused=reused,
            tokens_recomputed=again,
            time=split,
        )


def _halves(batch: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]


def _forgot(*stores: StateStore) -> bool:
    """Gives back what is kept for later, which then costs more; False where there was nothing."""
    kept = any(len(store) for store in stores)
    for store in stores:
        store.clear()
    return kept


def _read_again(job: Job, planned: Planned, reused: int) -> int:
    """Tokens that were read for earlier rows of the task and are not known any more; what came between turns is new."""
    start = planned.plan.start
    if not job.kept or start == 0:
        return 0
    return max(0, int(job.item.sequence.targets[start - 1]) - reused)


def _states_of(work: Work, states: Tensor) -> Tensor:
    """The states that predict the planned rows, of those of the piece."""
    at = torch.from_numpy(work.planned.plan.prefix_tokens - 1 - work.piece.past_tokens)
    return states[at.to(states.device)]


def _shared_of(works: Sequence[Work]) -> list[_Shared]:
    """The outermost prefixes that these works, of one scope, should be given next. No row of theirs is predicted inside."""
    prefixes = [work.job.item.sequence.ids[: work.planned.first_state] for work in works]
    return [_shared(works, prefixes, trunk) for trunk in find_trunks(prefixes, [work.known for work in works])]


def _shared(works: Sequence[Work], prefixes: Sequence[Ids], trunk: Trunk) -> _Shared:
    best = works[trunk.knows_most]
    past = None if best.past is None else best.past.first(min(best.known, trunk.tokens))
    start = 0 if past is None else past.tokens
    members = [works[member] for member in trunk.members]
    return _Shared(members, Piece(prefixes[trunk.knows_most][start : trunk.tokens], past))
