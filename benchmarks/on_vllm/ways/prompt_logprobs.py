"""vLLM's `prompt_logprobs`: the best k of every prompt row and the prompt's own token, computed by vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.on_vllm.items import TOPK, VOCABULARY, drawn
from benchmarks.on_vllm.ways.found import F32, KNOWN, LONGER, Found, error_nats, growing, peak_of, timed
from benchmarks.on_vllm.ways.offline import asked, offline

NUMBER_BYTES = 4
CAPS = ((256, 64), (1000, 64), (1000, 1))  # tokens and k of one request


def measure(folder: Path, count: int) -> Found:
    model = offline(folder, {})
    found = Found("top-k and the sampled token")
    timed(found, count, lambda sequences: _topk(model, sequences))
    found.bytes_per_token = NUMBER_BYTES * (2 * (TOPK + 1) + 1)  # ids, log-probabilities, the sampled token's rank
    sequences = drawn(1, 2)
    found.error_nats = error_nats(folder, sequences, _sampled(_topk(model, sequences), sequences))
    first, longer = growing()
    _topk(model, first[None])
    [output] = outputs = _topk(model, longer[None])
    wrong = error_nats(folder, longer[None], _sampled(outputs, longer[None]))
    computed = LONGER - int(output.num_cached_tokens)
    found.reuse = f"{computed} tokens computed for {LONGER - KNOWN} new rows, {wrong:.1g} nats"
    found.notes["peak_mib_of_one_request"] = {f"{tokens} x {k}": _peak_mib(model, tokens, k) for tokens, k in CAPS}
    return found


def _topk(model: Any, sequences: np.ndarray, k: int = TOPK) -> list[Any]:
    return asked(model, sequences, prompt_logprobs=k, flat_logprobs=True)


def _peak_mib(model: Any, tokens: int, k: int) -> float:
    found, ids = Found(""), np.random.default_rng(tokens + k).integers(0, VOCABULARY, (1, tokens))
    with peak_of(found):
        _topk(model, ids, k)
    return round(found.peak_mib, 1)


def _sampled(outputs: list[Any], sequences: np.ndarray) -> list[F32]:
    """Of each prompt's tokens but the first; the first entry of a row is its own token."""
    found: list[F32] = []
    for output, ids in zip(outputs, sequences, strict=True):
        flat = output.prompt_logprobs
        starts = np.asarray(flat.start_indices[1:])  # the first token has no row
        assert [flat.token_ids[start] for start in starts] == ids[1:].tolist(), "a row does not begin with its own token"
        found.append(np.array([flat.logprobs[start] for start in starts], np.float32))
    return found
