"""Models and items of every measurement on vLLM: sequences that nothing has seen, top-64 or 64 ids of the caller's own."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import numpy as np

from benchmarks.scoring.models import Shape
from preceptor.types import Grade, RaggedIds, Scored, ScoreItem, Want
from preceptor.types import Sequence as Ids

VOCABULARY = 49_152
SMALL = Shape(hidden=64, layers=2, vocabulary=VOCABULARY)
BIG = Shape(hidden=256, layers=4, vocabulary=VOCABULARY)
SEQUENCES, TOKENS, TOPK = 32, 512, 64
ROWS = TOKENS - 1
DEADLINE_S = 900.0
CORES = os.cpu_count() or 1  # stock vLLM takes all of them by itself
CACHE = {"kv_cache_memory_bytes": 256 << 20, "block_size": 32}
ENGINE = {"dtype": "f32", **CACHE}

T = TypeVar("T")


def drawn(seed: int, count: int) -> np.ndarray:
    """Fresh sequences, so that nothing can come from a cache."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, (count, TOKENS))


def topk_items(sequences: np.ndarray) -> list[ScoreItem]:
    return [ScoreItem(Ids.of(ids[:1], ids[1:]), Want(sampled=True, topk=TOPK, grade=Grade.F16)) for ids in sequences]


def candidate_items(sequences: np.ndarray) -> list[ScoreItem]:
    """Other ids in every row."""
    offsets = np.arange(ROWS + 1, dtype=np.uint32) * TOPK
    chosen = np.random.default_rng(int(sequences[0, 0])).integers(0, VOCABULARY, (len(sequences), ROWS * TOPK))
    wants = [Want(sampled=True, candidates=RaggedIds(offsets, ids.astype(np.uint32)), grade=Grade.F16) for ids in chosen]
    return [ScoreItem(Ids.of(ids[:1], ids[1:]), want) for ids, want in zip(sequences, wants, strict=True)]


ITEMS = {"topk": topk_items, "candidates": candidate_items}


async def timed(work: Awaitable[T]) -> tuple[T, float]:
    began = time.perf_counter()
    return await work, time.perf_counter() - began


def checked(outcomes: Sequence[Any]) -> list[Scored]:
    """All of them, with all of their rows."""
    scored = [one for one in outcomes if isinstance(one, Scored) and one.rows.count == ROWS]
    if len(scored) != len(outcomes):
        raise RuntimeError(f"{len(outcomes) - len(scored)} of {len(outcomes)} items have no rows: {outcomes}")
    return scored
