"""The student's tokenizer: the same under all versions of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preceptor.errors import ConfigurationError, WrongPair
from preceptor_serving.digests import template_sha256, tokenizer_sha256, tokenizer_size
from preceptor_serving.models.load import load_tokenizer


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, its size and its digests."""

    tokenizer: Any
    size: int
    tokenizer_sha256: bytes
    template_sha256: bytes

    @classmethod
    def of(cls, folder: Path) -> Vocabulary:
        """The tokenizer of a model folder."""
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, tokenizer_size(tokenizer), tokenizer_sha256(tokenizer), template_sha256(tokenizer))

    def decode(self, ids: Sequence[int]) -> str:
        """Text with special tokens in it."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def text(self, ids: Sequence[int]) -> str:
        """Text for people: without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def check_head(self, head_rows: int) -> None:
        """Refuses a head that lacks rows for ids of this tokenizer."""
        if self.size > head_rows:
            raise ConfigurationError(
                "the tokenizer has more ids than the head has rows", field="tokenizer", value=self.size, limit=head_rows
            )

    def check_same(self, folder: Path) -> None:
        """A version may come without a tokenizer; one with another tokenizer is another student."""
        if not (folder / "tokenizer.json").is_file():
            return
        theirs = tokenizer_sha256(load_tokenizer(folder))
        if theirs != self.tokenizer_sha256:
            raise WrongPair(
                "the version has another tokenizer than the student that is served",
                field="tokenizer_sha256",
                value=theirs.hex(),
                limit=self.tokenizer_sha256.hex(),
            )
