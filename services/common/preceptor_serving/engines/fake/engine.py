"""The engine around the automaton."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preceptor.errors import ConfigurationError, Conflict, PreceptorError, VersionGone
from preceptor.types import Capabilities, Grade, ModelInfo, ModelRef, Receipt, Scored, TimeSplit
from preceptor_serving.engines.fake.model import FakeModel
from preceptor_serving.engines.fake.options import FakeOptions
from preceptor_serving.engines.fake.readout import Table, read_rows
from preceptor_serving.engines.fake.script import Script, Sleep, die
from preceptor_serving.engines.plan import plan_item
from preceptor_serving.engines.protocol import Outcome, ScoreItem

ENGINE_VERSION = "1"
NUMERICS_VERSION = "1"
REMEMBERED_CALLS = 1000
KEPT_TABLES = 16  # callers choose temperatures freely
ROW_COST = 0.1


def create(options: Mapping[str, Any]) -> FakeEngine:
    """The factory in `ENGINES`."""
    return FakeEngine(FakeOptions.from_mapping(options))


class FakeEngine:
    """An `Engine` that needs no model. `calls` remembers the latest batches; tests put their own `sleep` and `die` in."""

    def __init__(self, options: FakeOptions, *, sleep: Sleep = time.sleep, die: Callable[[], None] = die) -> None:
        if options.fail_to_load:
            raise ConfigurationError("the staged failure to load", field="fail_to_load", value=True)
        self.options = options
        self.calls: deque[tuple[ScoreItem, ...]] = deque(maxlen=REMEMBERED_CALLS)
        self._script = Script(options, sleep, die)
        self._infos: list[ModelInfo] = []
        self._models: dict[ModelRef, FakeModel] = {}
        self._tables: dict[tuple[ModelRef, float], Table] = {}
        sleep(options.load_s)
        self._add(None, options.seed)

    def describe(self) -> tuple[ModelInfo, ...]:
        return tuple(self._infos)

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        info = self._info(version)
        self.calls.append(tuple(items))
        self._script.before_call(items)
        return [self._score_one(item, info) for item in items]

    def load_version(self, version: ModelRef, folder: str) -> None:
        """Another automaton, seeded by the version's digest; nothing is read from the folder."""
        if version in self._models:
            return
        named = (version.run, version.epoch, version.step)
        if any((known.model.run, known.model.epoch, known.model.step) == named for known in self._infos):
            raise Conflict("another manifest has this run, epoch and step", field="version.manifest_sha256", value=version.step)
        self._add(version, int.from_bytes(hashlib.sha256(version.manifest_sha256).digest()[:8], "little"))

    def drop_version(self, version: ModelRef) -> None:
        if version not in self._models:
            return
        if len(self._infos) == 1:
            raise Conflict("the last version cannot be dropped", field="version", value=version.step)
        self._infos = [info for info in self._infos if info.model != version]
        del self._models[version]
        self._tables = {key: table for key, table in self._tables.items() if key[0] != version}

    def close(self) -> None:
        self._models.clear()
        self._tables.clear()

    def model(self, version: ModelRef | None = None) -> FakeModel:
        """The automaton of a version, for oracles."""
        return self._models[self._info(version).model]

    def _score_one(self, item: ScoreItem, info: ModelInfo) -> Outcome:
        try:
            refusal = self._script.refusal(item)
            if refusal is not None:
                return refusal
            plan = plan_item(item, info)
        except PreceptorError as error:
            return error
        states = self._models[info.model].state_after(item.sequence.ids, plan.prefix_tokens)
        rows = read_rows(self._table(info.model, item.want.temperature), plan, states, item.want)
        prefill_s, readout_s = self._script.spend(len(item.sequence.ids), len(plan))
        return Scored(rows, _receipt(info, item, TimeSplit(prefill_s=prefill_s, readout_s=readout_s)))

    def _table(self, version: ModelRef, temperature: float) -> Table:
        key = (version, temperature)
        if key not in self._tables:
            if len(self._tables) >= KEPT_TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = Table(self._models[version], temperature)
        return self._tables[key]

    def _info(self, version: ModelRef | None) -> ModelInfo:
        for info in self._infos:
            if version is None or info.model == version:
                return info
        raise VersionGone("this version is not loaded", field="teacher.exact", value=version and version.step)

    def _add(self, version: ModelRef | None, seed: int) -> None:
        options = self.options
        model = FakeModel(seed, options.states, options.head_rows, options.tokenizer_size)
        ref = version or ModelRef(options.name, manifest_sha256=model.weights_sha256)
        self._models[ref] = model
        self._infos.insert(0, _describe(ref, model, options))


def _describe(ref: ModelRef, model: FakeModel, options: FakeOptions) -> ModelInfo:
    return ModelInfo(
        model=ref,
        tokenizer_sha256=hashlib.sha256(b"fake tokenizer %d" % options.tokenizer_size).digest(),
        template_sha256=hashlib.sha256(b"fake template").digest(),
        tokenizer_size=options.tokenizer_size,
        head_rows=options.head_rows,
        dtype="f32",
        engine="fake",
        engine_version=ENGINE_VERSION,
        numerics_version=NUMERICS_VERSION,
        capabilities=_capabilities(options),
        head_sha256=model.head_sha256,
        noise_floor_nats=0.0,
    )


def _capabilities(options: FakeOptions) -> Capabilities:
    most_candidates = options.max_candidates_per_row
    return Capabilities(
        sampled=True,
        max_topk=options.tokenizer_size,
        max_candidates_per_row=options.tokenizer_size if most_candidates is None else most_candidates,
        entropy=True,
        tail=True,
        max_samples=options.max_samples,
        hidden=True,
        next=True,
        deterministic=True,
        grades=tuple(Grade),
        max_sequence_tokens=options.max_sequence_tokens,
        row_cost=ROW_COST,
        several_versions=True,
    )


def _receipt(info: ModelInfo, item: ScoreItem, time: TimeSplit) -> Receipt:
    return replace(
        Receipt.of(info),
        temperature=item.want.temperature,
        tokens_computed=len(item.sequence.ids),
        time=time,
    )
