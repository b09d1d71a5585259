"""One forward pass: ids, and the keys and values of what went before them, to hidden states.

Shapes: B sequences, q new tokens, p past tokens, h hidden size, H key-value heads, d head size. Sequences are padded on the
right: a causal model never looks there, so that padding changes nothing but the time. Past keys and values are padded on their
right too, and masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from preceptor.types import Ids

LayerState = tuple[Tensor, Tensor]  # keys and values, each [H, tokens, d]


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Keys and values of `tokens` tokens, layer by layer; never changed once made. On the grid also their states [tokens, h]."""

    layers: tuple[LayerState, ...]
    states: Tensor | None = None

    @property
    def tokens(self) -> int:
        return self.layers[0][0].shape[1]

    def first(self, tokens: int) -> KeyValues:
        """Those of the first tokens; a view."""
        if tokens == self.tokens:
            return self
        layers = tuple((keys[:, :tokens], values[:, :tokens]) for keys, values in self.layers)
        return KeyValues(layers, None if self.states is None else self.states[:tokens])


@dataclass(frozen=True, slots=True)
class Piece:
    """New tokens of one sequence, after what is known of it."""

    ids: Ids
    past: KeyValues | None = None

    @property
    def past_tokens(self) -> int:
        return 0 if self.past is None else self.past.tokens


@dataclass(frozen=True, slots=True)
class Forwarded:
    """States of each piece's new tokens, [new tokens, h]; and, where asked for, keys and values of all its tokens."""

    states: list[Tensor]
    key_values: list[KeyValues | None]


@torch.inference_mode()
def forward(base: Any, pieces: Sequence[Piece], device: torch.device, *, keep: Sequence[bool]) -> Forwarded:
    """One pass over all pieces. `keep` says whose keys and values are wanted afterwards."""
    new, past = [len(piece.ids) for piece in pieces], [piece.past_tokens for piece in pieces]
    inputs: dict[str, Any] = {"input_ids": _padded_ids(pieces, max(new)).to(device)}
    if any(past):
        inputs["past_key_values"] = _joined_past(pieces, max(past))
        inputs["attention_mask"] = _mask_for(base, past, max(new)).to(device)
        inputs["position_ids"] = (torch.tensor(past)[:, None] + torch.arange(max(new))).to(device)
    elif any(keep):
        inputs["past_key_values"] = DynamicCache()
    out = base(**inputs, use_cache="past_key_values" in inputs)
    states = [out.last_hidden_state[i, :count] for i, count in enumerate(new)]
    cache = getattr(out, "past_key_values", None)  # an architecture without attention has none
    kept = [_extract(cache, i, past[i], max(past), new[i]) if wanted else None for i, wanted in enumerate(keep)]
    return Forwarded(states, kept)


def _padded_ids(pieces: Sequence[Piece], width: int) -> Tensor:
    ids = torch.zeros(len(pieces), width, dtype=torch.int64)
    for row, piece in zip(ids, pieces, strict=True):
        row[: len(piece.ids)] = torch.from_numpy(piece.ids.astype("int64"))
    return ids


def _mask_for(base: Any, past: Sequence[int], new: int) -> Tensor:
    """The mask as this model's attention takes it: SDPA booleans, the others something to add to the scores."""
    seen = _mask(past, new)
    if base.config._attn_implementation == "sdpa":
        return seen
    return torch.zeros(seen.shape, dtype=base.dtype).masked_fill_(~seen, torch.finfo(base.dtype).min)


def _mask(past: Sequence[int], new: int) -> Tensor:
    """[B, 1, q, p + q], true where a new token may look: at its own past, and at new tokens up to itself."""
    longest = max(past)
    causal = torch.ones(new, new, dtype=torch.bool).tril()
    own = torch.arange(longest) < torch.tensor(past)[:, None]
    return torch.cat([own[:, None].expand(-1, new, -1), causal.expand(len(past), -1, -1)], -1)[:, None]


def _joined_past(pieces: Sequence[Piece], longest: int) -> DynamicCache:
    template = next(piece.past for piece in pieces if piece.past is not None)
    cache = DynamicCache()
    for index, (keys, _) in enumerate(template.layers):
        joined = [_joined([_part(piece, index, kind) for piece in pieces], longest, keys) for kind in (0, 1)]
        cache.update(joined[0], joined[1], index)
    return cache


def _part(piece: Piece, layer: int, kind: int) -> Tensor | None:
    return None if piece.past is None else piece.past.layers[layer][kind]


def _joined(parts: Sequence[Tensor | None], longest: int, like: Tensor) -> Tensor:
    if len(parts) == 1 and parts[0] is not None:
        return parts[0][None]
    width = next(part.shape[-1] for part in parts if part is not None)  # values may be wider than keys
    out = like.new_zeros(len(parts), like.shape[0], longest, width)
    for row, part in zip(out, parts, strict=True):
        if part is not None:
            row[:, : part.shape[1]] = part
    return out


def _extract(cache: Any, index: int, past: int, longest: int, new: int) -> KeyValues:
    """A copy of one sequence's own keys and values, without the padding on either side."""

    def own(padded: Tensor) -> Tensor:
        return torch.cat([padded[index, :, :past], padded[index, :, longest : longest + new]], 1)

    return KeyValues(tuple((own(layer.keys), own(layer.values)) for layer in cache.layers))
