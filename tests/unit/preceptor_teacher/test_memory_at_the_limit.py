"""The largest request that an engine allows: what its process takes for it, above what it holds idle, stays under a bound."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.scoring.models import Shape, save_random_qwen3
from preceptor.types import RaggedIds, Scored, Sequence, Want
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.host import EngineHost
from preceptor_serving.engines.protocol import ScoreItem
from tests.contract.engine_subjects import Face, behind

VOCABULARY, ROWS = 16_384, 1023  # all rows of the longest sequence
LISTED = 4096  # the default max_topk and max_candidates_per_row of both engines
TRAVELS = ROWS * LISTED * (4 + 8 + 4)  # candidate ids in; ids and values of the top-k, and values of the candidates, out
PLANE = 48 << 20  # what the readout takes for logits at a time
BOUND = 5 * TRAVELS + 3 * PLANE  # what travels: decoded, computed, gathered, joined, encoded; logits, their order, a forward pass
SAMPLE_S = 0.005
VLLM = {"dtype": "f32", "kv_cache_memory_bytes": 64 << 20}


def asked(rows: int, listed: int) -> ScoreItem:
    numbers = np.random.default_rng(rows)
    lists = [numbers.permutation(VOCABULARY)[:listed].tolist() for _ in range(rows)]
    ids = numbers.integers(3, 200, rows).tolist()
    return ScoreItem(Sequence.of([1], ids), Want(sampled=True, topk=listed, candidates=RaggedIds.from_rows(lists)))


def peak_above_idle(face: Face, engine: psutil.Process, item: ScoreItem) -> int:
    """Bytes that the engine's process held at most while it scored this, above what it held before."""
    over, held = threading.Event(), [engine.memory_info().rss]

    def watch() -> None:
        while not over.wait(SAMPLE_S):
            held.append(engine.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        [outcome] = face.score([item])
    finally:
        over.set()
        thread.join()
    assert isinstance(outcome, Scored), outcome
    assert outcome.rows.count == len(item.sequence.response_ids)
    return max(held) - held[0]


@pytest.mark.parametrize("name", ["hf", pytest.param("vllm", marks=pytest.mark.vllm)])
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_largest_allowed_request_stays_under_its_bound(name: str, tmp_path: Path):
    folder = save_random_qwen3(tmp_path / "limit", Shape(hidden=64, layers=2, vocabulary=VOCABULARY))
    options = {"name": "limit", "folder": str(folder), **(VLLM if name == "vllm" else {})}
    with behind(lambda: EngineHost(EngineSpec("limit", name, options))) as face:
        [engine] = [one for one in psutil.Process().children() if "engine_host.child" in " ".join(one.cmdline())]
        face.score([asked(8, 8)])
        peak = peak_above_idle(face, engine, asked(ROWS, LISTED))
    print(f"{name}: {peak / (1 << 20):.0f} MiB above idle, at most {BOUND / (1 << 20):.0f} MiB are allowed")
    assert ROWS * LISTED * 12 < peak < BOUND
