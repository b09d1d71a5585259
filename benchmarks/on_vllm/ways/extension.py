"""What the engine does: our readout in vLLM's workers, on newly computed tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.on_vllm.items import ENGINE, ITEMS, TOPK, checked, drawn
from benchmarks.on_vllm.ways.found import KNOWN, LONGER, Found, error_nats, growing, timed
from benchmarks.scoring.house import NAME
from preceptor.types import Rows, Scored, ScoreItem, Sequence, Want, Window
from preceptor_serving.engines.protocol import Engine
from preceptor_serving.engines.registry import create_engine
from preceptor_teacher.growing import Growth

F32_BYTES, ID_BYTES = 4, 4


def measure(folder: Path, count: int, signal: str) -> Found:
    """`signal`: topk or candidates."""
    engine = create_engine("vllm", {"name": NAME, "folder": str(folder), **ENGINE})
    make = ITEMS[signal]
    found = Found("every signal; here " + signal)
    timed(found, count, lambda sequences: checked(engine.score(make(sequences))))
    scored = checked(engine.score(make(drawn(1, 2))))
    found.error_nats = error_nats(folder, drawn(1, 2), [_sampled(one.rows) for one in scored])
    found.bytes_per_token = F32_BYTES + TOPK * (F32_BYTES + (ID_BYTES if signal == "topk" else 0))
    found.reuse = _reuse(engine, folder)
    engine.close()
    return found


def _reuse(engine: Engine, folder: Path) -> str:
    """A rollout that grows: rows of the new tokens alone, and what was computed for them."""
    first, longer = growing()
    _grown(engine, first, Window(0, KNOWN - 1))
    scored = _grown(engine, longer, Window(KNOWN - 1, LONGER - 1))
    wrong = error_nats(folder, longer[None], [_sampled(scored.rows)])
    return f"{scored.receipt.tokens_computed} tokens computed for {LONGER - KNOWN} new rows, {wrong:.1g} nats"


def _grown(engine: Engine, ids: np.ndarray, window: Window) -> Scored:
    item = ScoreItem(Sequence.of(ids[:1], ids[1:]), Want(sampled=True, topk=TOPK, window=window))
    [outcome] = engine.score_growing([item], [Growth("job", "task", open=False)])  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(outcome, Scored), outcome
    return outcome


def _sampled(rows: Rows) -> np.ndarray:
    assert rows.sampled is not None, "every want here has it"
    return rows.sampled
