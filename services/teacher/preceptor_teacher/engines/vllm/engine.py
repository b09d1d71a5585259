"""The calls of the `vllm` engine: capabilities, scoring, growing tasks."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import vllm

from preceptor.errors import Internal, PreceptorError, TooLarge
from preceptor.types import Capabilities, Grade, Ids, ModelInfo, ModelRef, Receipt, Rows, Scored, TimeSplit
from preceptor_serving.engines.plan import plan_item
from preceptor_serving.engines.protocol import Method, Outcome, ScoreItem
from preceptor_teacher import growing
from preceptor_teacher.engines.answer import Planned
from preceptor_teacher.engines.vllm.core import Part
from preceptor_teacher.engines.vllm.options import VllmOptions
from preceptor_teacher.engines.vllm.readings import Read, Spent
from preceptor_teacher.engines.vllm.sessions import Key, Session, Sessions
from preceptor_teacher.engines.vllm.start import Served, serve
from preceptor_teacher.engines.vllm.turns import Turns, Whole
from preceptor_teacher.engines.vllm.versions import Version, Versions
from preceptor_teacher.engines.vllm.worker import Wanted
from preceptor_teacher.growing import Growth

ENGINE = "vllm"
NUMERICS_VERSION = "2"  # raised whenever the same weights may give other bits
ROW_COST = 0.1  # reading a row, in tokens: head GEMM over a forward pass for small and middle-sized models


@dataclass(frozen=True, slots=True)
class _Work:
    """One item on its way through; without rows there is nothing to read. `key` names the session that it leaves behind;
    `continues`: rows of its task were scored before. `lender` is the request that has the state of its first row."""

    index: int
    planned: Planned
    ids: Ids
    part: Part | None = None
    key: Key | None = None
    continues: bool = False
    lender: str = ""

    @property
    def request_id(self) -> str:
        return "" if self.part is None else self.part.request_id


class VllmEngine:
    """An `Engine` over vLLM's engine core, which runs in this process: whole weights that take turns, and adapters."""

    def __init__(self, options: VllmOptions) -> None:
        self._served = serve(options)
        self._core = self._served.core
        self._sessions = Sessions(self._served.max_num_seqs // 2, self._core.cache_tokens // 2)
        weights = Whole.of(options.folder)
        turns = Turns(self._core, weights, self._served.tokenizer_size, self._end_all)
        served = Version(info_of(self._served, options), weights)
        self._versions = Versions(served, self._core, turns, options.max_versions)
        self._numbers = itertools.count(1)

    def describe(self) -> tuple[ModelInfo, ...]:
        return self._versions.infos()

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        return self.score_growing(items, [None] * len(items), version)

    def score_growing(
        self, items: Sequence[ScoreItem], growths: Sequence[Growth | None], version: ModelRef | None = None
    ) -> list[Outcome]:
        """As `score`, for tasks whose sequences grow: what was read before is not read again while its session is kept."""
        under = self._versions.use(version)
        outcomes: dict[int, Outcome] = {}
        works: list[_Work] = []
        for index, (item, growth) in enumerate(zip(items, growths, strict=True)):
            try:
                works.append(self._begin(index, item, growth, under))
            except PreceptorError as error:
                outcomes[index] = error
        if works:
            outcomes |= self._score(works, under)
        return [outcomes[index] for index in range(len(items))]

    def methods(self) -> Mapping[str, Method]:
        return {growing.SCORE_GROWING: self._answer_growing}

    def load_version(self, version: ModelRef, folder: str) -> None:
        self._versions.load(version, Path(folder))

    def drop_version(self, version: ModelRef) -> None:
        self._versions.drop(version)

    def close(self) -> None:
        self._core.close()

    # ---- one batch

    def _begin(self, index: int, item: ScoreItem, growth: Growth | None, under: Version) -> _Work:
        """What has to be read for an item; a session that leads to it is taken up, one that does not is ended."""
        planned = Planned(plan_item(item, under.info), item.want)
        if not len(planned.plan):
            return _Work(index, planned, item.sequence.ids[:0])
        if planned.tokens >= self._served.max_model_len:  # vLLM wants room for the token that it draws
            limit = f"< {self._served.max_model_len} tokens before row R"
            raise TooLarge(
                "there is no room for the row after the sequence", field="want.next", value=planned.tokens, limit=limit
            )
        ids, number = item.sequence.ids[: planned.tokens], next(self._numbers)
        read = Read(number, planned.first_state, planned.tokens)
        if growth is None:
            return _Work(index, planned, ids, Part(f"r{number}", ids, read, None, keeps_session=False, adapter=under.adapter))
        key: Key = (f"{growth.scope}\0{under.number}", growth.task)
        session = self._sessions.take(key)
        if session is not None and session.leads_to(ids, read.first):
            part = Part(session.request_id, ids[len(session.ids) :], read, growth.scope, True, under.adapter)
        else:
            self._end(session)
            part = Part(f"r{number}", ids, read, growth.scope, growth.open, under.adapter)
        return _Work(index, planned, ids, part, key if growth.open else None, continues=planned.plan.start > 0)

    def _score(self, works: Sequence[_Work], under: Version) -> dict[int, Outcome]:
        began = time.perf_counter()
        works = share_first_states(works)
        lost = self._core.run([work.part for work in works if work.part is not None], self._give_up)
        prefilled = time.perf_counter()
        for work in works:
            if work.part is not None and work.part.keeps_session and work.request_id not in lost:
                self._keep_or_end(work)
        for session in self._sessions.surplus():
            self._end(session)
        answers = self._core.on_workers(
            "preceptor_answer", [Wanted(work.request_id, work.planned, work.lender) for work in works]
        )
        split = TimeSplit(prefill_s=prefilled - began, readout_s=time.perf_counter() - prefilled)
        receipt = replace(Receipt.of(under.info), time=split)
        return {work.index: outcome_of(work, rows, spent, receipt) for work, (rows, spent) in zip(works, answers, strict=True)}

    def _keep_or_end(self, work: _Work) -> None:
        session = Session(work.request_id, work.ids)
        if work.key is None:
            self._end(session)
        else:
            self._end(self._sessions.take(work.key))  # two chunks of one task in a batch: the later one goes on
            self._sessions.put(work.key, session)

    def _give_up(self) -> bool:
        if not len(self._sessions):
            return False
        self._end(self._sessions.oldest())
        return True

    def _end(self, session: Session | None) -> None:
        if session is not None:
            self._core.forget([session.request_id])

    def _end_all(self) -> None:
        while self._give_up():
            pass

    def _answer_growing(self, request: bytes) -> Iterator[bytes]:
        yield growing.answer(request, self.score_growing, self.describe)


def outcome_of(work: _Work, rows: Rows | Internal, spent: Spent, receipt: Receipt) -> Outcome:
    """Rows with the receipt of their batch, and what they cost; rows that are short of a state stay the error that they are."""
    if isinstance(rows, Internal):
        return rows
    planned = work.planned
    return Scored(
        rows,
        replace(
            receipt,
            temperature=planned.want.temperature,
            tokens_computed=spent.computed,
            tokens_reused=spent.reused,
            tokens_recomputed=max(0, planned.first_state - spent.reused) if work.continues else 0,
        ),
    )


def share_first_states(works: Sequence[_Work]) -> list[_Work]:
    """Rollouts of one prompt in a batch: one of them computes the state that predicts the first token of all.

    Otherwise each would compute the prompt's last block, because behind a cached block there are no states.
    """
    lenders: dict[tuple[str, bytes], str] = {}
    shared: list[_Work] = []
    for work in works:
        part = work.part
        if part is not None and part.salt is not None and len(part.ids) == len(work.ids) > part.read.first + 1:
            start = (part.salt, work.ids[: part.read.first + 1].tobytes())
            lender = lenders.setdefault(start, part.request_id)
            if lender != part.request_id:
                later = replace(part, read=replace(part.read, first=part.read.first + 1))
                work = replace(work, part=later, lender=lender)  # noqa: PLW2901
        shared.append(work)
    return shared


def info_of(served: Served, options: VllmOptions) -> ModelInfo:
    """What `Describe` says about the model."""
    return ModelInfo(
        model=served.ref,
        tokenizer_sha256=served.tokenizer_sha256,
        template_sha256=served.template_sha256,
        tokenizer_size=served.tokenizer_size,
        head_rows=served.head_rows,
        dtype=options.dtype,
        engine=ENGINE,
        engine_version=f"vllm {vllm.__version__}, torch {torch.__version__}",
        numerics_version=NUMERICS_VERSION,
        head_sha256=served.head_sha256,
        noise_floor_nats=served.noise_floor_nats,
        capabilities=capabilities_of(served, options),
    )


def capabilities_of(served: Served, options: VllmOptions) -> Capabilities:
    """Every signal; not deterministic mode, because what shares a forward pass depends on what arrives together."""
    adapters = served.core.config.lora_config is not None
    return Capabilities(
        sampled=True,
        max_topk=min(options.max_topk, served.tokenizer_size),
        max_candidates_per_row=options.max_candidates_per_row,
        entropy=True,
        tail=True,
        max_samples=options.max_samples,
        hidden=True,
        next=True,
        deterministic=False,
        streaming=True,
        grades=tuple(Grade),
        max_sequence_tokens=served.max_model_len,
        row_cost=ROW_COST,
        several_versions=adapters or options.max_versions > 1,
        adapters=adapters,
    )
