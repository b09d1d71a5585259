"""From hidden states to signals in bounded memory: a chunk of rows at a time, every signal from the same log-softmax.

Shapes: n rows, h hidden size, v rows of the head, t real tokens (t <= v), k top entries, d draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.philox import teacher_uniform
from preceptor.types import IdLogprobs, Ids, TailOf
from preceptor_serving.models.draw import draw
from preceptor_serving.models.topk import topk_lowest_id
from preceptor_teacher.readout.head import Head
from preceptor_teacher.readout.reduce import entropy, log_sum_exp
from preceptor_teacher.readout.spec import NO_TARGET, RowSpec, Signals

F32 = NDArray[np.float32]

# Of logits, one plane: every chunk reads the whole head, so that few rows at a time are slow. On a CPU it may grow with what is
# read anyway, so that the peak of memory stays a fixed part above that.
CPU_CHUNK_BYTES = 48 << 20
CPU_CHUNK_SHARE = 1 / 6
CUDA_CHUNK_BYTES = MOST_CHUNK_BYTES = 512 << 20
MAX_CHUNK_ROWS = 4096
COLDEST_IN_F32 = 1e-30  # a colder temperature, or its inverse, is no normal f32


@dataclass(frozen=True, slots=True)
class ReadoutRows:
    """One entry a row; a signal that was not wanted is None. `candidates` is flat, cut by the spec's own offsets."""

    sampled: F32 | None = None
    topk: IdLogprobs | None = None
    candidates: F32 | None = None
    entropy: F32 | None = None
    tail: F32 | None = None
    samples: IdLogprobs | None = None


@torch.inference_mode()
def readout(states_nh: Tensor, head: Head, spec: RowSpec, *, chunk_rows: int | None = None) -> ReadoutRows:
    """The signals of each row. `chunk_rows` fixes the number of rows of one product, for results that never depend on n."""
    out = _Columns(spec)
    step = chunk_rows or _chunk_rows(head, states_nh)
    plane_nv = None if head.weight_vh.is_cuda else torch.empty(min(step, len(spec)), head.rows)
    for start in range(0, len(spec), step):
        logits_nv = head.logits(states_nh[start : start + step], plane_nv)
        _read_chunk(logits_nv, head.tokenizer_size, spec, slice(start, min(start + step, len(spec))), out)
    return out.rows()


class _Columns:
    """The results, on the CPU, filled chunk by chunk."""

    def __init__(self, spec: RowSpec) -> None:
        signals, n = spec.signals, len(spec)
        self.sampled = np.empty(n, np.float32) if signals.sampled else None
        self.entropy = np.empty(n, np.float32) if signals.entropy else None
        self.tail = np.empty(n, np.float32) if signals.tail else None
        self.topk = _empty_lists(n, signals.topk)
        self.samples = _empty_lists(n, signals.samples)
        self.candidates = None if spec.candidates is None else np.empty(len(spec.candidates.ids), np.float32)

    def rows(self) -> ReadoutRows:
        return ReadoutRows(self.sampled, self.topk, self.candidates, self.entropy, self.tail, self.samples)


def _empty_lists(n: int, width: int) -> IdLogprobs | None:
    return IdLogprobs(np.empty((n, width), np.uint32), np.empty((n, width), np.float32)) if width else None


def _chunk_rows(head: Head, states_nh: Tensor) -> int:
    inputs_bytes = head.weight_vh.nbytes + states_nh.nbytes
    budget = CUDA_CHUNK_BYTES if head.weight_vh.is_cuda else max(CPU_CHUNK_BYTES, int(inputs_bytes * CPU_CHUNK_SHARE))
    return max(1, min(MAX_CHUNK_ROWS, min(budget, MOST_CHUNK_BYTES) // (4 * head.rows)))


def _read_chunk(logits_nv: Tensor, tokens: int, spec: RowSpec, part: slice, out: _Columns) -> None:
    signals = spec.signals
    log_probs_nv = _log_softmax(logits_nv, signals.temperature)
    tokens_nt = log_probs_nv[:, :tokens]
    listed = _Listed()
    if out.topk is not None:
        values, ids = topk_lowest_id(tokens_nt, signals.topk)
        _store(out.topk, part, values, ids)
        listed.topk = ids
    if out.candidates is not None and spec.candidates is not None:
        rows, ids, where = _flat(spec.candidates.offsets, spec.candidates.ids, part, log_probs_nv.device)
        out.candidates[where] = log_probs_nv[rows, ids].cpu().numpy()
        listed.candidates = (rows, ids)
    if out.samples is not None:
        ids = draw(tokens_nt, _uniform(spec, part))
        _store(out.samples, part, tokens_nt.gather(1, ids), ids)
        listed.samples = ids
    if out.sampled is not None:
        listed.targets = torch.from_numpy(spec.targets[part]).to(log_probs_nv.device)
        out.sampled[part] = _sampled(log_probs_nv, listed.targets).cpu().numpy()
    if out.entropy is not None:
        out.entropy[part] = entropy(log_probs_nv).cpu().numpy()
    if out.tail is not None:  # last: it overwrites the chunk
        out.tail[part] = _tail(log_probs_nv, listed, signals).cpu().numpy()


def _log_softmax(logits_nv: Tensor, temperature: float) -> Tensor:
    """In f32, over all rows of the head; in place where it can."""
    if temperature != 1.0:
        logits_nv = _scaled(logits_nv, temperature)
    return logits_nv.sub_(log_sum_exp(logits_nv)[:, None])


def _scaled(logits_nv: Tensor, temperature: float) -> Tensor:
    """Relative to each row's peak, so that the coldest temperature leaves the peak at 0 and the rest at -inf, not NaN."""
    logits_nv.sub_(logits_nv.amax(-1, keepdim=True))
    if temperature >= COLDEST_IN_F32:
        return logits_nv.div_(temperature)
    return logits_nv.double().div_(temperature).float()


@dataclass(slots=True)
class _Listed:
    """The ids that a reply returns for each row of a chunk, by signal."""

    topk: Tensor | None = None
    samples: Tensor | None = None
    targets: Tensor | None = None
    candidates: tuple[Tensor, Tensor] | None = None  # (row, id) of each entry


def _store(lists: IdLogprobs, part: slice, values: Tensor, ids: Tensor) -> None:
    lists.ids[part] = ids.cpu().numpy()
    lists.logprobs[part] = values.cpu().numpy()


def _flat(offsets: NDArray[np.uint32], ids: Ids, part: slice, device: torch.device) -> tuple[Tensor, Tensor, slice]:
    """(row in the chunk, id) of each candidate of the chunk's rows, and where these stand in the flat list."""
    cuts = offsets[part.start : part.stop + 1].astype(np.int64)
    where = slice(int(cuts[0]), int(cuts[-1]))
    rows = np.repeat(np.arange(len(cuts) - 1), np.diff(cuts))
    return torch.from_numpy(rows).to(device), torch.from_numpy(ids[where].astype(np.int64)).to(device), where


def _uniform(spec: RowSpec, part: slice) -> NDArray[np.float64]:
    assert spec.seeds is not None, "samples need seeds"
    assert spec.rows is not None, "samples need row indices"
    return teacher_uniform(spec.seeds[part], spec.rows[part], spec.signals.samples)


def _sampled(log_probs_nv: Tensor, targets_n: Tensor) -> Tensor:
    found = log_probs_nv.gather(1, targets_n.clamp_min(0)[:, None])[:, 0]
    return found.masked_fill_(targets_n == NO_TARGET, torch.nan)


def _tail(log_probs_nv: Tensor, listed: _Listed, signals: Signals) -> Tensor:
    """Log-sum-exp of what was not listed. Never log1p(-sum): in f32 that loses what is small."""
    union = signals.tail is TailOf.UNION
    if listed.topk is not None and signals.tail in (TailOf.UNION, TailOf.TOPK):
        log_probs_nv.scatter_(1, listed.topk, -torch.inf)
    if listed.candidates is not None and signals.tail in (TailOf.UNION, TailOf.CANDIDATES):
        log_probs_nv[listed.candidates] = -torch.inf
    if union and listed.samples is not None:
        log_probs_nv.scatter_(1, listed.samples, -torch.inf)
    if union and listed.targets is not None:
        rows = (listed.targets != NO_TARGET).nonzero()[:, 0]
        log_probs_nv[rows, listed.targets[rows]] = -torch.inf
    return log_sum_exp(log_probs_nv)
