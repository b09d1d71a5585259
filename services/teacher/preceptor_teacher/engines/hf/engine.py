"""The calls of the `hf` engine: versions, capabilities, scoring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import transformers

from preceptor.errors import Conflict, Exhausted, VersionGone
from preceptor.types import Capabilities, Grade, ModelInfo, ModelRef
from preceptor_serving.engines.protocol import Method, Outcome, ScoreItem
from preceptor_serving.models.versions import VersionLoader
from preceptor_teacher import growing
from preceptor_teacher.engines.hf.load import LoadedModel, load_model
from preceptor_teacher.engines.hf.memory import if_it_fits
from preceptor_teacher.engines.hf.options import HfOptions
from preceptor_teacher.engines.hf.scoring import Scorer
from preceptor_teacher.engines.hf.states import StateStore
from preceptor_teacher.engines.hf.work import Job
from preceptor_teacher.growing import Growth

ENGINE = "hf"
NUMERICS_VERSION = "5"  # raised whenever the same weights may give other bits
ROW_COST = 0.1  # reading a row, in tokens: head GEMM over a forward pass for small and middle-sized models


class HfEngine:
    """An `Engine` over transformers. It sets this process's thread count: it is meant to be alone in it."""

    def __init__(self, options: HfOptions) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self._scorers: list[Scorer] = []  # newest first
        self._loader = VersionLoader(options.folder, options.dtype, options.device)
        self._add(load_model(options, self._loader, options.folder, None))

    def describe(self) -> tuple[ModelInfo, ...]:
        return tuple(scorer.info for scorer in self._scorers)

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        return self._scorer(version).score([Job(item) for item in items])

    def score_growing(
        self, items: Sequence[ScoreItem], growths: Sequence[Growth | None], version: ModelRef | None = None
    ) -> list[Outcome]:
        """As `score`, for tasks whose sequences grow: what was read before is not read again while its state is kept."""
        jobs = [Job(item, growth) for item, growth in zip(items, growths, strict=True)]
        return self._scorer(version).score(jobs)

    def methods(self) -> Mapping[str, Method]:
        return {growing.SCORE_GROWING: self._answer_growing}

    def load_version(self, version: ModelRef, folder: str) -> None:
        for scorer in self._scorers:
            known = scorer.info.model
            if known == version:
                return
            if (known.name, known.run, known.epoch, known.step) == (version.name, version.run, version.epoch, version.step):
                raise Conflict(
                    "another manifest has this name, run, epoch and step", field="version.manifest_sha256", value=version.step
                )
        if len(self._scorers) >= self.options.max_versions:
            raise Exhausted("no room for another version", field="version", value=version.step, limit=self.options.max_versions)
        model = if_it_fits(
            lambda: load_model(self.options, self._loader, Path(folder), version), torch.device(self.options.device)
        )
        if model is None:
            limit = f"the free memory of {self.options.device}"
            raise Exhausted("another version does not fit into memory", field="version", value=version.step, limit=limit)
        self._add(model)

    def drop_version(self, version: ModelRef) -> None:
        kept = [scorer for scorer in self._scorers if scorer.info.model != version]
        if not kept:
            raise Conflict("the last version cannot be dropped", field="version", value=version.step)
        self._scorers = kept

    def close(self) -> None:
        self._scorers.clear()

    def _add(self, model: LoadedModel) -> None:
        states = StateStore(self.options.state_tokens if model.keeps_states else 0)
        self._scorers.insert(0, Scorer(model, info_of(model, self.options), states, self.options.batch_tokens))

    def _scorer(self, version: ModelRef | None) -> Scorer:
        for scorer in self._scorers:
            if version is None or scorer.info.model == version:
                return scorer
        raise VersionGone("this version is not loaded", field="teacher.exact", value=version and version.step)

    def _answer_growing(self, request: bytes) -> Iterator[bytes]:
        yield growing.answer(request, self.score_growing, self.describe)


def info_of(model: LoadedModel, options: HfOptions) -> ModelInfo:
    """What `Describe` says about a version."""
    return ModelInfo(
        model=model.ref,
        tokenizer_sha256=model.tokenizer_sha256,
        template_sha256=model.template_sha256,
        tokenizer_size=model.head.tokenizer_size,
        head_rows=model.head.rows,
        dtype=options.dtype,
        engine=ENGINE,
        engine_version=f"transformers {transformers.__version__}, torch {torch.__version__}",
        numerics_version=NUMERICS_VERSION,
        head_sha256=model.head_sha256,
        noise_floor_nats=model.noise_floor_nats,
        capabilities=capabilities_of(model, options),
    )


def capabilities_of(model: LoadedModel, options: HfOptions) -> Capabilities:
    """Everything, except what this model's cache or this device cannot do."""
    return Capabilities(
        sampled=True,
        max_topk=min(options.max_topk, model.head.tokenizer_size),
        max_candidates_per_row=options.max_candidates_per_row,
        entropy=True,
        tail=True,
        max_samples=options.max_samples,
        hidden=True,
        next=True,
        deterministic=model.keeps_states and model.device.type == "cpu" and options.dtype == "f32",
        streaming=model.keeps_states and options.state_tokens > 0,
        grades=tuple(Grade),
        max_sequence_tokens=model.max_tokens,
        row_cost=ROW_COST,
        several_versions=options.max_versions > 1,
    )
