"""The model: a language model's backbone, and one number read from its last token.

Weights are f32. The head starts at zero, so a new discriminator gives every text the score 0, and needs no seed.
Shapes: n texts, t tokens, h hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from preceptor.errors import ConfigurationError, TooLarge
from preceptor_serving.models.load import load_causal_lm, load_tokenizer, max_tokens


class Scorer:
    """Scores of texts, with gradient."""

    def __init__(self, folder: Path, device: str, max_sequence_tokens: int | None) -> None:
        model = load_causal_lm(folder, "f32", device)
        self._tokenizer = load_tokenizer(folder)
        self._longest = max_tokens(model.config, max_sequence_tokens)
        if self._tokenizer.eos_token_id is None:
            raise ConfigurationError("a discriminator reads a text's end, and its tokenizer has no end token", field="folder")
        self._backbone = model.base_model.requires_grad_(requires_grad=True)
        self.device = next(self._backbone.parameters()).device
        self._head_h = torch.zeros(model.get_input_embeddings().embedding_dim, device=self.device, requires_grad=True)

    def named(self) -> dict[str, Tensor]:
        """All weights by name, in the model's own order."""
        return {**dict(self._backbone.named_parameters(prefix="backbone")), "head": self._head_h}

    def ids(self, prompt: str, text: str) -> list[int]:
        """The prompt as a user's message, the text as the reply, its end. Nothing in the text is read as a special token."""
        encode, end = self._tokenizer.encode, self._tokenizer.eos_token_id
        message = [{"role": "user", "content": prompt}]
        asked = prompt
        if self._tokenizer.chat_template is not None:
            asked = str(self._tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        before = encode(asked, add_special_tokens=False, verbose=False)
        ids = [*before, *encode(text, add_special_tokens=False, split_special_tokens=True, verbose=False), end]
        if len(ids) > self._longest:
            raise TooLarge("the discriminator cannot read so long a text", field="response", value=len(ids), limit=self._longest)
        return ids

    def scores(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """[n], each read at the last token of its text."""
        lengths_n = torch.tensor([len(ids) for ids in texts], device=self.device)
        ids_nt = torch.zeros(len(texts), int(lengths_n.max()), dtype=torch.long, device=self.device)
        for row, ids in enumerate(texts):
            ids_nt[row, : len(ids)] = torch.tensor(ids, device=self.device)
        mask_nt = (torch.arange(ids_nt.shape[1], device=self.device) < lengths_n[:, None]).long()
        states_nth = self._backbone(input_ids=ids_nt, attention_mask=mask_nt, use_cache=False).last_hidden_state
        return states_nth[torch.arange(len(texts), device=self.device), lengths_n - 1] @ self._head_h
