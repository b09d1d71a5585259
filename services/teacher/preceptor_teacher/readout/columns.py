"""The results of one readout, on the device: filled chunk by chunk, copied to the host once, when all of it is computed.

Shapes: n rows, e candidates of all rows, k top entries or draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from preceptor.types import IdLogprobs
from preceptor_teacher.readout.spec import RowSpec
from preceptor_teacher.readout.transfer import to_host

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ReadoutRows:
    """One entry a row; a signal that was not wanted is None. `candidates` is flat, cut by the spec's own offsets."""

    sampled: F32 | None = None
    topk: IdLogprobs | None = None
    candidates: F32 | None = None
    entropy: F32 | None = None
    tail: F32 | None = None
    samples: IdLogprobs | None = None


@dataclass(frozen=True, slots=True)
class ListColumn:
    """Ids and their log-probabilities."""

    ids_nk: Tensor
    logprobs_nk: Tensor

    def put(self, part: slice, values_mk: Tensor, ids_mk: Tensor) -> None:
        self.ids_nk[part] = ids_mk
        self.logprobs_nk[part] = values_mk


@dataclass(frozen=True, slots=True)
class Columns:
    """None where a signal is not wanted."""

    sampled_n: Tensor | None
    topk: ListColumn | None
    candidates_e: Tensor | None
    entropy_n: Tensor | None
    tail_n: Tensor | None
    samples: ListColumn | None

    @classmethod
    def empty(cls, spec: RowSpec, device: torch.device) -> Columns:
        signals, n = spec.signals, len(spec)

        def column(wanted: object, length: int = n) -> Tensor | None:
            return torch.empty(length, device=device) if wanted else None

        def lists(width: int) -> ListColumn | None:
            ids = torch.empty(n, width, dtype=torch.int32, device=device)
            return ListColumn(ids, torch.empty(n, width, device=device)) if width else None

        return cls(
            sampled_n=column(signals.sampled),
            topk=lists(signals.topk),
            candidates_e=None if spec.candidates is None else column(wanted=True, length=len(spec.candidates.ids)),
            entropy_n=column(signals.entropy),
            tail_n=column(signals.tail),
            samples=lists(signals.samples),
        )

    def rows(self) -> ReadoutRows:
        """On the host; an accelerator is waited for here and nowhere before."""
        lists = [(None, None) if one is None else (one.ids_nk, one.logprobs_nk) for one in (self.topk, self.samples)]
        plain = [self.sampled_n, self.candidates_e, self.entropy_n, self.tail_n]
        sampled, candidates, entropy, tail, *pairs = to_host([*plain, *lists[0], *lists[1]])
        return ReadoutRows(sampled, _lists(*pairs[:2]), candidates, entropy, tail, _lists(*pairs[2:]))


def _lists(ids: NDArray[np.int32] | None, logprobs: F32 | None) -> IdLogprobs | None:
    return None if ids is None or logprobs is None else IdLogprobs(ids.view(np.uint32), logprobs)
