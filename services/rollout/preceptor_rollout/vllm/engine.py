"""The calls of the vllm generation engine."""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import vllm

from preceptor.errors import Unsupported
from preceptor.types import Capabilities, ModelInfo, ModelRef
from preceptor_rollout import chunks
from preceptor_rollout.calls import GENERATE, STUDENT
from preceptor_rollout.texts import TextCalls, student_reply
from preceptor_rollout.units import Unit
from preceptor_rollout.vllm.batch import Batch
from preceptor_rollout.vllm.options import VllmGenerationOptions
from preceptor_rollout.vllm.unit import GrowingUnit
from preceptor_rollout.vllm.weights import Held, Weights
from preceptor_rollout.vocabulary import Vocabulary
from preceptor_serving.engines.protocol import Method, Outcome, ScoreItem
from preceptor_serving.models.folder import eos_ids_in, folder_sha256
from preceptor_serving.vllm.adapters import Adapters
from preceptor_serving.vllm.core import Core
from preceptor_serving.vllm.start import start_core

ENGINE = "vllm"
NUMERICS_VERSION = "1"  # raised whenever the same weights may give other bits
EXTENSION = "preceptor_rollout.vllm.worker.DrawExtension"
TURN_S = 0.1  # at most so long, plus one token, until a cancelled unit stops and another call gets its turn


class VllmGeneration:
    """An `Engine` over vLLM's engine core, which runs in this process. Units share its batches; its weights are one version's."""

    def __init__(self, options: VllmGenerationOptions) -> None:
        options = options.with_adapters()
        self._vocabulary = Vocabulary.of(options.folder)
        self._core = Core(start_core(options, EXTENSION))
        self._core.on_workers("preceptor_install_draws", self._vocabulary.size)
        self._texts = TextCalls(self._vocabulary)
        self._eos_ids = eos_ids_in(options.folder)
        self._batch = Batch(self._core, options.log_chunk_tokens)
        self._dtype = options.dtype
        base = Held(ModelRef(options.name, manifest_sha256=folder_sha256(options.folder)), options.folder)
        self._adapters = Adapters(self._core)
        self._weights = Weights(self._core, base, self._vocabulary, self._adapters)
        self._waiting: deque[GrowingUnit] = deque()
        self._numbers = itertools.count(1)
        self._vocabulary.check_head(self._info(base.ref).head_rows)

    def describe(self) -> tuple[ModelInfo, ...]:
        return tuple(self._info(ref) for ref in self._weights.refs())

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        raise Unsupported("a rollout service does not score", field="method", value="score", hint="ask a teacher service")

    def methods(self) -> Mapping[str, Method]:
        return {GENERATE: self._generate, STUDENT: self._student, **self._texts.methods()}

    def load_version(self, version: ModelRef, folder: str) -> None:
        """Checks it and, where nothing runs, reads it; otherwise the first unit that names it waits until nothing runs."""
        held = self._weights.add(version, Path(folder))
        if self._batch.idle and not self._waiting:
            self._weights.use(held)

    def drop_version(self, version: ModelRef) -> None:
        self._weights.drop(version)

    def close(self) -> None:
        self._core.close()

    def _generate(self, payload: bytes) -> Iterator[bytes]:
        """`Unit` in, lists of chunks out; an empty list whenever `TURN_S` has passed, so that others get their turn."""
        asked = Unit.from_bytes(payload)
        held = self._weights.find(asked.version)
        unit = GrowingUnit(next(self._numbers), asked.request, asked.version, self._vocabulary, self._eos_ids)
        yield from self._wait_for_weights(unit, held)
        try:
            self._batch.begin(unit, self._weights.use(held))
            yield from self._grow(unit)
        finally:
            self._batch.end(unit)

    def _wait_for_weights(self, unit: GrowingUnit, held: Held) -> Iterator[bytes]:
        """Units begin in the order in which they came; one that needs other weights, once nothing runs."""
        self._waiting.append(unit)
        try:
            while self._waiting[0] is not unit or not (self._batch.idle or self._weights.are_loaded(held)):
                if not self._batch.idle:
                    self._batch.step()
                yield chunks.to_bytes([])
        finally:
            self._waiting.remove(unit)

    def _grow(self, unit: GrowingUnit) -> Iterator[bytes]:
        began = time.monotonic()
        while True:
            self._batch.raise_for(unit)
            due, is_open = unit.due(), bool(unit.open)
            if due or (is_open and time.monotonic() - began > TURN_S):
                yield chunks.to_bytes(due)
                began = time.monotonic()
            elif is_open:
                self._batch.step()
            else:
                return

    def _student(self, payload: bytes) -> Iterator[bytes]:
        """Nothing in; RolloutDescribeReply of the newest version out."""
        yield student_reply(self._info(self._weights.refs()[0]), self._eos_ids, guided=False)

    def _info(self, ref: ModelRef) -> ModelInfo:
        """What `Describe` says. Not deterministic mode: what shares a forward pass depends on what arrives together."""
        model = self._core.config.model_config
        return ModelInfo(
            model=ref,
            tokenizer_sha256=self._vocabulary.tokenizer_sha256,
            template_sha256=self._vocabulary.template_sha256,
            tokenizer_size=self._vocabulary.size,
            head_rows=model.get_vocab_size(),
            dtype=self._dtype,
            engine=ENGINE,
            engine_version=f"vllm {vllm.__version__}, torch {torch.__version__}",
            numerics_version=NUMERICS_VERSION,
            capabilities=Capabilities(
                max_topk=self._vocabulary.size,
                max_sequence_tokens=model.max_model_len,
                several_versions=True,
                adapters=self._adapters.enabled,
                generate=True,
                own_logprobs=True,
                seeds=True,
            ),
        )
