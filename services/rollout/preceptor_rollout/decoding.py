"""Prompts to logits, token by token, over one key-value cache: the only code that runs the model.

Shapes: p prompts, w tokens of the longest prompt, b sequences, v rows of the head.

Each prompt is read once; its keys and values are then repeated for its samples. Prompts of one length run exactly as they
stand. Shorter ones are padded on the left, where a mask hides the padding and positions are counted without it, so that all
sequences grow on the right together; that changes a log-probability by rounding only (bar N1), never by what is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from preceptor.types import Ids


class Decoder:
    """A batch of sequences under one model. `first` reads the prompts, `next` appends one token to every sequence."""

    def __init__(self, model: Any, prompts: Sequence[Ids], samples: Sequence[int]) -> None:
        self._model, self._device = model, model.device
        self._prompt_of_b = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor(samples)).to(self._device)
        self._lengths_b = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        self._padded_pw, self._mask_bw = _left_padded(prompts)
        self._cache: Any = None

    @torch.inference_mode()
    def first(self) -> Tensor:
        """Logits [b, v] of each sequence's first token."""
        ids_pw = self._padded_pw.to(self._device)
        if self._mask_bw is None:
            out = self._model(input_ids=ids_pw, use_cache=True, logits_to_keep=1)
        else:
            self._mask_bw = self._mask_bw.to(self._device)
            positions_pw = (self._mask_bw.cumsum(-1) - 1).clamp(min=0)
            out = self._model(
                input_ids=ids_pw,
                attention_mask=self._mask_bw,
                position_ids=positions_pw,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = out.past_key_values
        logits_pv = out.logits[:, -1]
        self._select(self._prompt_of_b)
        return logits_pv[self._prompt_of_b]

    @torch.inference_mode()
    def next(self, ids_b: Tensor) -> Tensor:
        """Logits [b, v] after one more token of each sequence."""
        inputs: dict[str, Any] = {"input_ids": ids_b[:, None], "past_key_values": self._cache}
        if self._mask_bw is not None:
            self._mask_bw = torch.cat([self._mask_bw, self._mask_bw.new_ones(len(ids_b), 1)], 1)
            inputs |= {"attention_mask": self._mask_bw, "position_ids": self._lengths_b[:, None]}
        self._lengths_b = self._lengths_b + 1
        return self._model(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1]

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Goes on with these sequences only."""
        self._select(torch.tensor(rows, device=self._device))

    def _select(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._lengths_b = self._lengths_b[rows]
        if self._mask_bw is not None:
            self._mask_bw = self._mask_bw[rows]


def _left_padded(prompts: Sequence[Ids]) -> tuple[Tensor, Tensor | None]:
    """Ids [p, w], and a mask of what is no padding; no mask where nothing is padded."""
    width = max(len(prompt) for prompt in prompts)
    ids_pw = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask_pw = torch.zeros(len(prompts), width, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids_pw[row, width - len(prompt) :] = torch.from_numpy(prompt.astype("int64"))
        mask_pw[row, width - len(prompt) :] = 1
    return ids_pw, None if bool(mask_pw.all()) else mask_pw
