"""What a way is asked to show, and how it is measured the same for each."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from benchmarks.on_vllm.items import TOKENS, VOCABULARY, drawn

REPEATS = 3
SAMPLE_S = 0.005
KNOWN, LONGER = 384, 512  # tokens of a sequence that is scored first, and of the longer one that begins with it
F32 = NDArray[np.float32]

Score = Callable[[np.ndarray], object]
"""Scores these sequences whole."""


@dataclass(slots=True)
class Found:
    """Figures of one way. `bytes_per_token` is what has to leave the workers for a row with 64 ids."""

    signals: str
    tokens_per_s: float = 0.0
    tokens_per_cpu_s: float = 0.0
    bytes_per_token: float = 0.0
    peak_mib: float = 0.0
    error_nats: float = 0.0
    reuse: str = ""
    notes: dict[str, object] = field(default_factory=dict)


@contextmanager
def peak_of(found: Found) -> Iterator[None]:
    """The most memory that this process held at once meanwhile, above what it held before."""
    process, over = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not over.wait(SAMPLE_S):
            highest = max(highest, process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        found.peak_mib = max(found.peak_mib, (highest - before) / (1 << 20))


def timed(found: Found, count: int, score: Score) -> None:
    """Fresh sequences each time; the first time warms up and does not count. On a busy machine CPU time stays comparable."""
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    for turn in range(REPEATS + 1):
        sequences = drawn(2000 + turn, count)
        with peak_of(found if turn else Found("")):
            began, began_cpu = time.perf_counter(), time.process_time()
            score(sequences)
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - began_cpu)
    found.tokens_per_s = count * TOKENS / statistics.median(seconds[1:])
    found.tokens_per_cpu_s = count * TOKENS / statistics.median(cpu_seconds[1:])


def error_nats(folder: Path, sequences: np.ndarray, sampled: Sequence[F32]) -> float:
    """Of each token's log-probability after its prefix, from the second token on, against the whole model in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)
    worst = 0.0
    for ids, got in zip(sequences, sampled, strict=True):
        with torch.inference_mode():
            exact = model(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].log_softmax(-1).numpy()
        wanted = exact[np.arange(len(ids) - 1), ids[1:]][-len(got) :]
        worst = max(worst, float(np.abs(wanted - got).max()))
    return worst


def growing() -> tuple[np.ndarray, np.ndarray]:
    """A sequence, and a longer one that begins with it."""
    ids = np.random.default_rng(77).integers(0, VOCABULARY, LONGER)
    return ids[:KNOWN], ids
