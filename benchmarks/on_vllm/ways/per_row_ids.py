"""`prompt_logprob_token_ids`: ids of the caller's own for each row, and a row to start at; the second model runner's alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.on_vllm.items import ROWS, TOPK, VOCABULARY, drawn
from benchmarks.on_vllm.ways.found import F32, KNOWN, LONGER, Found, error_nats, growing, timed
from benchmarks.on_vllm.ways.offline import asked, offline

NUMBER_BYTES = 4
IDS = np.random.default_rng(9).integers(0, VOCABULARY, (ROWS, TOPK), dtype=np.int32)


def measure(folder: Path, count: int, runner: str) -> Found:
    """`runner`: 1 for the second model runner, 0 for the first."""
    model = offline(folder, {"VLLM_USE_V2_MODEL_RUNNER": runner}, max_logprobs=TOPK + 1)
    found = Found("candidates")
    timed(found, count, lambda sequences: _scored(model, sequences))
    found.bytes_per_token = NUMBER_BYTES * (TOPK + 1)
    found.error_nats = error_nats(folder, drawn(1, 2), _sampled(_scored(model, drawn(1, 2))))
    first, longer = growing()
    _scored(model, first[None])
    [output] = _scored(model, longer[None], KNOWN - 1)
    wrong = error_nats(folder, longer[None], _sampled([output]))
    computed = LONGER - int(output.num_cached_tokens)
    found.reuse = f"{computed} tokens computed for {LONGER - KNOWN} new rows, {wrong:.1g} nats"
    return found


def _scored(model: Any, sequences: np.ndarray, start: int = 0) -> list[Any]:
    """The sampled token's log-probability first, 64 others after it; one request at a time has its own ids."""
    outputs: list[Any] = []
    for ids in sequences:
        rows = np.concatenate([ids[1:, None].astype(np.int32), IDS[: len(ids) - 1]], 1)[start:]
        outputs += asked(model, ids[None], prompt_logprob_token_ids=rows, prompt_logprob_start=start)
    return outputs


def _sampled(outputs: list[Any]) -> list[F32]:
    return [np.asarray(output.prompt_token_id_logprobs)[:, 0] for output in outputs]
