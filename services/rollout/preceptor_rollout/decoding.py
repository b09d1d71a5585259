"""Prompts to logits, token by token, over one key-value cache: the only code that runs the model.

Shapes: p prompts, w tokens of the longest prompt or sequence, b sequences, v rows of the head.

Each prompt is read once; its keys and values are then repeated for its samples. Sequences of one length run exactly as they
stand. Shorter ones are padded on the left, where a mask hides the padding and positions are counted without it, so that all
sequences grow on the right together; that changes a log-probability by rounding only (bar N1), never by what is padded. So a
sequence can join others at any time: whichever side is shorter is padded. Columns that are padding for everyone are cut off.
Samples that join later than others of their prompt begin from what was kept of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer

from preceptor.types import Ids


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prompt that was read, for samples of it that have not begun."""

    states: list[tuple[Tensor, Tensor]]  # keys and values of each layer, [1, heads, w, d], without padding
    logits_1v: Tensor

    def repeated(self, samples: int) -> DynamicCache:
        """As the cache of so many sequences."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self.states):
            cache.update(keys.expand(samples, -1, -1, -1), values.expand(samples, -1, -1, -1), layer)
        return cache


class Decoder:
    """A batch of sequences under one model. `join` reads prompts, `next` appends one token to every sequence."""

    def __init__(self, model: Any) -> None:
        self._model, self._device = model, model.device
        self._cache: Any = None
        self._lengths_b = torch.zeros(0, dtype=torch.int64)  # not on the device: nobody waits for it
        self.width = 0
        """Columns of the cache."""

    @property
    def takes_more(self) -> bool:
        """Whether sequences can join those that run: a layer that keeps a window or a state of its own has no left to pad."""
        return self._cache is None or self._is_plain

    @property
    def _is_plain(self) -> bool:
        return all(type(layer) is DynamicLayer for layer in self._cache.layers)

    @torch.inference_mode()
    def join(self, prompts: Sequence[Ids], samples: Sequence[int]) -> Tensor:
        """Logits [b, v] of the first token of so many new sequences of each prompt."""
        ids_pw, lengths_p = _left_padded(prompts)
        width = ids_pw.shape[1]
        inputs: dict[str, Tensor] = {"input_ids": ids_pw.to(self._device)}
        if (mask_pw := self._mask(lengths_p, width)) is not None:
            inputs |= {"attention_mask": mask_pw, "position_ids": (mask_pw.cumsum(-1) - 1).clamp(min=0)}
        out = self._model(**inputs, use_cache=True, logits_to_keep=1)
        prompt_of_b = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(samples))
        out.past_key_values.batch_select_indices(prompt_of_b.to(self._device))
        self._append(out.past_key_values, lengths_p[prompt_of_b], width)
        return out.logits[:, -1][prompt_of_b.to(self._device)]

    @torch.inference_mode()
    def prefix(self, logits_bv: Tensor) -> Prefix | None:
        """Of the sequence that joined last, right after it did and from the logits that it got; None: it cannot be kept."""
        if not self._is_plain:
            return None
        length = int(self._lengths_b[-1])
        last = [(layer.keys[-1:, :, -length:].clone(), layer.values[-1:, :, -length:].clone()) for layer in self._cache.layers]
        return Prefix(last, logits_bv[-1:].clone())

    @torch.inference_mode()
    def join_from(self, prefix: Prefix, samples: int) -> Tensor:
        """Logits [b, v] of the first token of more samples of a prompt that was read before."""
        cache = prefix.repeated(samples)
        width = cache.get_seq_length()
        self._append(cache, torch.full((samples,), width), width)
        return prefix.logits_1v.expand(samples, -1)

    @torch.inference_mode()
    def next(self, ids_b: Tensor) -> Tensor:
        """Logits [b, v] after one more token of each sequence."""
        inputs: dict[str, Any] = {"input_ids": ids_b[:, None], "past_key_values": self._cache}
        if (mask_bw := self._mask(self._lengths_b + 1, self.width + 1)) is not None:
            inputs |= {"attention_mask": mask_bw, "position_ids": self._lengths_b[:, None].to(self._device)}
        self._lengths_b, self.width = self._lengths_b + 1, self.width + 1
        return self._model(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1]

    @torch.inference_mode()
    def back(self, tokens_b: Tensor) -> None:
        """Forgets so many of the newest tokens of each sequence. Those of one length stay without padding."""
        assert self.takes_more, "only such caches can be shifted"
        columns_bw = (torch.arange(self.width) - tokens_b[:, None]).clamp(min=0).to(self._device)
        for layer in self._cache.layers:
            index = columns_bw[:, None, :, None].expand_as(layer.keys)
            layer.keys, layer.values = layer.keys.gather(2, index), layer.values.gather(2, index)
        self._lengths_b = self._lengths_b - tokens_b
        self._trim()

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these sequences only, at least one."""
        self._cache.batch_select_indices(torch.tensor(rows, device=self._device))
        self._lengths_b = self._lengths_b[list(rows)]
        self._trim()

    def _trim(self) -> None:
        """Without the columns that are padding for everyone."""
        longest = int(self._lengths_b.max())
        if self.takes_more and longest < self.width:
            for layer in self._cache.layers:
                layer.keys, layer.values = layer.keys[..., -longest:, :], layer.values[..., -longest:, :]
            self.width = longest

    def _append(self, cache: Any, lengths_b: Tensor, width: int) -> None:
        if self._cache is None:
            self._cache, self._lengths_b, self.width = cache, lengths_b, width
            return
        self.width = max(self.width, width)
        for ours, theirs in zip(self._cache.layers, cache.layers, strict=True):
            ours.keys = torch.cat([_widened(ours.keys, self.width), _widened(theirs.keys, self.width)])
            ours.values = torch.cat([_widened(ours.values, self.width), _widened(theirs.values, self.width)])
        self._lengths_b = torch.cat([self._lengths_b, lengths_b])

    def _mask(self, lengths_b: Tensor, width: int) -> Tensor | None:
        """What is no padding; None where nothing is padded."""
        mask_bw = torch.arange(width) >= width - lengths_b[:, None]
        return None if bool(mask_bw.all()) else mask_bw.long().to(self._device)


def _widened(states_bhwd: Tensor, width: int) -> Tensor:
    """Padded on the left."""
    return pad(states_bhwd, (0, 0, width - states_bhwd.shape[-2], 0))


def _left_padded(prompts: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    """Ids [p, w], and how many of each row are no padding."""
    lengths_p = torch.tensor([len(prompt) for prompt in prompts])
    ids_pw = torch.zeros(len(prompts), int(lengths_p.max()), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids_pw[row, ids_pw.shape[1] - len(prompt) :] = torch.from_numpy(prompt.astype("int64"))
    return ids_pw, lengths_p
