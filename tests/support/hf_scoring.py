"""Scoring through the hf engine in tests: random sequences, logs that grow, every number of a reply, the model in float64."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from preceptor.types import Scored, Sequence, Want, Window
from preceptor_serving.engines.protocol import ScoreItem
from preceptor_teacher.growing import Growth
from tests.reference import readout_oracle as oracle
from tests.support.models import TOKENS


def random_sequence(rng, *, turns: int = 1, context: int = 12, response: int = 20) -> Sequence:
    parts = []
    for _ in range(turns):
        parts.append(("context", rng.integers(0, TOKENS, rng.integers(1, context + 1))))
        parts.append(("response", rng.integers(0, TOKENS, rng.integers(1, response + 1))))
    return Sequence.of_turns(parts)


def float64_log_probs(folder, sequence: Sequence, temperature: float = 1.0) -> np.ndarray:
    """Rows of the whole model in float64, the row after the last token included.

    On the plain attention: the fused one leaves out what it does not know, such as a soft cap.
    """
    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True, **plain)
    with torch.no_grad():
        logits = model(torch.from_numpy(sequence.ids.astype("int64"))[None]).logits[0].numpy()
    at = np.append(sequence.targets, len(sequence.ids)) - 1
    return np.stack([oracle.log_softmax(row, temperature) for row in logits[at]])


def scored(outcomes) -> list[Scored]:
    for outcome in outcomes:
        if not isinstance(outcome, Scored):
            raise outcome
    return list(outcomes)


def columns(rows) -> dict[str, np.ndarray]:
    """Every number in some rows."""
    found = {name: getattr(rows, name) for name in ("validity", "sampled", "entropy", "tail")}
    for name in ("topk", "samples"):
        lists = getattr(rows, name)
        found |= {} if lists is None else {f"{name}.ids": lists.ids, f"{name}.logprobs": lists.logprobs}
    if rows.candidates is not None:
        found["candidates"] = rows.candidates.logprobs
    if rows.hidden is not None:
        found["hidden"] = rows.hidden.states
    return {name: values for name, values in found.items() if values is not None}


def joined(parts) -> dict[str, np.ndarray]:
    return {name: np.concatenate([columns(part)[name] for part in parts]) for name in columns(parts[0])}


def assert_equal_bits(one, other):
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.tobytes() == other[name].tobytes(), name


def grow(engine, sequence: Sequence, cuts, want_options, *, scope="t/j", task="task") -> tuple[list, list]:
    """Scores a log as it grows: rows and receipts of each call; `cuts` are lengths of the log, the last one closed."""
    parts, receipts, done = [], [], 0
    for cut in cuts:
        known = prefix_of(sequence, cut)
        want = Want(**want_options, window=Window(done, known.row_count))
        growth = Growth(scope, task, open=cut < len(sequence.ids))
        outcome = scored(engine.score_growing([ScoreItem(known, want)], [growth]))[0]
        parts.append(outcome.rows)
        receipts.append(outcome.receipt)
        done += outcome.rows.count
    assert done == sequence.row_count
    return parts, receipts


def prefix_of(sequence: Sequence, tokens: int) -> Sequence:
    parts, left = [], tokens
    for segment in sequence.segments:
        parts.append((segment.kind, segment.ids[:left]))
        left -= min(left, len(segment.ids))
    return Sequence.of_turns(parts)


def cuts_of(rng, sequence: Sequence, pieces: int) -> list[int]:
    first = len(sequence.segments[0].ids)
    return [*sorted(rng.integers(first, len(sequence.ids), pieces).tolist()), len(sequence.ids)]


def long_sequence(rng) -> Sequence:
    return Sequence.of_turns(
        [(kind, rng.integers(0, TOKENS, n)) for kind, n in [("context", 37), ("response", 70), ("context", 9), ("response", 41)]]
    )
