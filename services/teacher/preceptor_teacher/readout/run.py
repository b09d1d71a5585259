"""From hidden states to signals in bounded memory: a chunk of rows at a time, every signal from the same sums.

Between the first chunk and the last nothing is asked of the device: its results stay there, and the host only tells it what to
compute next.

Shapes: n rows, h hidden size, v rows of the head, t real tokens (t <= v), k top entries, d draws, e candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from preceptor.types import TailOf
from preceptor_serving.models.draw import draw
from preceptor_serving.models.temperature import COLDEST_IN_F32
from preceptor_serving.models.topk import topk_lowest_id
from preceptor_serving.models.vocabulary_head import Head
from preceptor_teacher.readout.asked import Asked
from preceptor_teacher.readout.columns import Columns, ReadoutRows
from preceptor_teacher.readout.reduce import Mass, mass_and_entropy_of, mass_of
from preceptor_teacher.readout.spec import NO_TARGET, RowSpec, Signals

# Of logits, one plane: every chunk reads the whole head, so that few rows at a time are slow. It may grow with what is read
# anyway, so that the peak of memory stays a fixed part above that.
CHUNK_BYTES = 48 << 20
CHUNK_SHARE = 1 / 6
MOST_CHUNK_BYTES = 512 << 20
MAX_CHUNK_ROWS = 4096
TILE_ROWS = 64  # of an accelerator, where a product takes as long as if its rows filled whole tiles


@torch.inference_mode()
def readout(states_nh: Tensor, head: Head, spec: RowSpec, *, chunk_rows: int | None = None) -> ReadoutRows:
    """The signals of each row. `chunk_rows` fixes the number of rows of one product, for results that never depend on n."""
    return read_on_device(states_nh, head, spec, chunk_rows or chunk_rows_of(head, states_nh)).rows()


def read_on_device(states_nh: Tensor, head: Head, spec: RowSpec, step: int) -> Columns:
    """The same as it stands on the device, where it may not be computed yet."""
    device = head.weight_vh.device
    asked, out = Asked.of(spec, device), Columns.empty(spec, device)
    plane_nv = torch.empty(min(step, len(spec)), head.rows, device=device)
    for start in range(0, len(spec), step):
        part = slice(start, min(start + step, len(spec)))
        _read_chunk(head.logits(states_nh[part], plane_nv), head.tokenizer_size, spec.signals, part, asked, out)
    return out


def chunk_rows_of(head: Head, states_nh: Tensor) -> int:
    """How many rows of logits stand in memory at once."""
    inputs_bytes = head.weight_vh.nbytes + states_nh.nbytes
    budget = min(max(CHUNK_BYTES, int(inputs_bytes * CHUNK_SHARE)), MOST_CHUNK_BYTES)
    rows = max(1, min(MAX_CHUNK_ROWS, budget // (4 * head.rows)))
    return rows if head.weight_vh.is_cpu or rows < TILE_ROWS else rows - rows % TILE_ROWS


@dataclass(slots=True)
class _Listed:
    """The ids that a reply returns for each row of a chunk, by signal."""

    topk_nk: Tensor | None = None
    samples_nd: Tensor | None = None
    targets_n: Tensor | None = None
    candidates: tuple[Tensor, Tensor] | None = None  # (row, id) of each entry


def _read_chunk(logits_nv: Tensor, tokens: int, signals: Signals, part: slice, asked: Asked, out: Columns) -> None:
    if signals.temperature != 1.0:
        logits_nv = _scaled(logits_nv, signals.temperature)
    mass = _mass(logits_nv, part, out)
    if out.samples is not None:
        mass = mass.normalise_(logits_nv)  # a draw reads all of it
    listed = _Listed()
    _read_lists(logits_nv, tokens, mass, part, asked, out, listed)
    if out.sampled_n is not None and asked.targets_n is not None:
        listed.targets_n = asked.targets_n[part]
        out.sampled_n[part] = _sampled(logits_nv, mass, listed.targets_n)
    if out.tail_n is not None:  # last: it overwrites the chunk
        _leave_out(logits_nv, listed, signals.tail)
        out.tail_n[part] = mass_of(logits_nv).log_share_of(mass)


def _mass(logits_nv: Tensor, part: slice, out: Columns) -> Mass:
    if out.entropy_n is None:
        return mass_of(logits_nv)
    mass, out.entropy_n[part] = mass_and_entropy_of(logits_nv)
    return mass


def _read_lists(logits_nv: Tensor, tokens: int, mass: Mass, part: slice, asked: Asked, out: Columns, listed: _Listed) -> None:
    tokens_nt = logits_nv[:, :tokens]
    if out.topk is not None:
        values_nk, listed.topk_nk = topk_lowest_id(tokens_nt, out.topk.ids_nk.shape[1], mass.log_probs)
        out.topk.put(part, values_nk, listed.topk_nk)
    if out.candidates_e is not None and asked.lists is not None:
        rows_e, ids_e = listed.candidates = asked.lists.read(part)
        out.candidates_e[asked.lists.entries(part)] = mass.log_probs(logits_nv[rows_e, ids_e][:, None], rows_e)[:, 0]
    if out.samples is not None and asked.uniform_nd is not None:
        listed.samples_nd = draw(tokens_nt, asked.uniform_nd[part])
        out.samples.put(part, tokens_nt.gather(1, listed.samples_nd), listed.samples_nd)


def _scaled(logits_nv: Tensor, temperature: float) -> Tensor:
    """Relative to each row's peak, so that the coldest temperature leaves the peak at 0 and the rest at -inf, not NaN."""
    logits_nv.sub_(logits_nv.amax(-1, keepdim=True))
    if temperature >= COLDEST_IN_F32:
        return logits_nv.div_(temperature)
    return logits_nv.double().div_(temperature).float()


def _sampled(logits_nv: Tensor, mass: Mass, targets_n: Tensor) -> Tensor:
    found_n1 = mass.log_probs(logits_nv.gather(1, targets_n.clamp_min(0)[:, None]))
    return found_n1[:, 0].masked_fill_(targets_n == NO_TARGET, torch.nan)


def _leave_out(logits_nv: Tensor, listed: _Listed, tail: TailOf) -> None:
    """Overwrites what was listed, so that the tail is a sum of the rest. Never log1p(-sum): in f32 that loses what is small."""
    union = tail is TailOf.UNION
    if listed.topk_nk is not None and tail in (TailOf.UNION, TailOf.TOPK):
        logits_nv.scatter_(1, listed.topk_nk, -torch.inf)
    if listed.candidates is not None and tail in (TailOf.UNION, TailOf.CANDIDATES):
        logits_nv[listed.candidates] = -torch.inf
    if union and listed.samples_nd is not None:
        logits_nv.scatter_(1, listed.samples_nd, -torch.inf)
    if union and listed.targets_n is not None:
        at_n1 = listed.targets_n.clamp_min(0)[:, None]
        kept_n1 = logits_nv.gather(1, at_n1).masked_fill_((listed.targets_n != NO_TARGET)[:, None], -torch.inf)
        logits_nv.scatter_(1, at_n1, kept_n1)
