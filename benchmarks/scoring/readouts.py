"""The readout, and the plain way to the same columns from all logits at once, on the same random head and states."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preceptor.types import RaggedIds, TailOf
from preceptor_teacher.readout import Head, RowSpec, Signals, readout

TOPK = 64
GEMM_ROWS = 256
SIGNALS = {
    "topk": Signals(sampled=True, topk=TOPK, tail=TailOf.TOPK),
    "topk_alone": Signals(sampled=True, topk=TOPK),
    "candidates": Signals(sampled=True),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A head, the states of some rows, and what is wanted of them."""

    states: Tensor
    head: Head
    spec: RowSpec

    @property
    def input_bytes(self) -> int:
        lists = 0 if self.spec.candidates is None else self.spec.candidates.ids.nbytes
        return self.states.nbytes + self.head.weight_vh.nbytes + self.spec.targets.nbytes + lists


def make_case(rows: int, vocabulary: int, hidden: int, dtype: torch.dtype, signal: str) -> Case:
    """Random values, made in place, so that making them leaves no trace in the peak of memory."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    weight = torch.empty(vocabulary, hidden, dtype=dtype).normal_(std=hidden**-0.5)
    states = torch.empty(rows, hidden, dtype=dtype).normal_()
    lists = None
    if signal == "candidates":
        lists = RaggedIds(np.arange(rows + 1, dtype=np.uint32) * TOPK, rng.integers(0, vocabulary, rows * TOPK).astype(np.uint32))
    return Case(states, Head(weight, vocabulary), RowSpec(SIGNALS[signal], rng.integers(0, vocabulary, rows), lists))


def ours(case: Case) -> object:
    return readout(case.states, case.head, case.spec)


def own_gemm(case: Case) -> object:
    """The head's product alone, in chunks of a good size into one plane: nothing that needs logits can be quicker."""
    plane = torch.empty(min(GEMM_ROWS, len(case.states)), case.head.rows)
    return [case.head.logits(part, plane)[:, 0].clone() for part in case.states.split(GEMM_ROWS)]


@torch.inference_mode()
def plain(case: Case) -> object:
    """`log_softmax` of full logits, then gather, top-k and tail: what a few lines of torch do."""
    logits = case.states.float() @ case.head.weight_vh.float().T
    return _columns(logits.log_softmax(-1), case.spec)


@torch.inference_mode()
def plain_in_place(case: Case) -> object:
    """Its best known settings: one plane, normalised in place by one log-sum-exp."""
    logits = case.states.float() @ case.head.weight_vh.float().T
    return _columns(logits.sub_(logits.logsumexp(-1, keepdim=True)), case.spec)


def _columns(log_probs: Tensor, spec: RowSpec) -> list[Tensor]:
    out = [log_probs.gather(1, torch.from_numpy(spec.targets)[:, None])]
    if spec.candidates is not None:
        out.append(log_probs.gather(1, torch.from_numpy(spec.candidates.ids.astype(np.int64)).view(len(spec), -1)))
    if spec.signals.topk:
        values, ids = log_probs.topk(spec.signals.topk, -1)
        out += [values, ids]
        if spec.signals.tail is TailOf.TOPK:
            out.append(log_probs.scatter_(1, ids, -torch.inf).logsumexp(-1))
    return out


WAYS: Mapping[str, Callable[[Case], object]] = {
    "ours": ours,
    "gemm": own_gemm,
    "plain": plain,
    "plain_in_place": plain_in_place,
}


def interleaved_s(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each way, which has to run on this thread alone; they take turns, so that noise hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.thread_time()
            way()
            seconds[name].append(time.thread_time() - began)
    return {name: median(values) for name, values in seconds.items()}
