"""What a discriminator is asked about, and what it said: the responses to one prompt beside one text of the teacher."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class AskedGroup:
    """Responses to a prompt, different ones in order, and how often each came."""

    digest: str
    prompt: str
    teacher: str  # what the teacher wrote
    texts: tuple[str, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, name: str, prompt: str, reference: str, teacher: str, responses: Sequence[str]) -> AskedGroup:
        """The digest knows the group as it was asked, in whatever order: what a writer said since then is no part of it."""
        texts, counts = zip(*sorted(Counter(responses).items()), strict=True)
        named = json.dumps([name, prompt, reference, texts, counts])
        return cls(hashlib.sha256(named.encode()).hexdigest(), prompt, teacher, texts, counts)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> AskedGroup:
        return cls(**{**values, "texts": tuple(values["texts"]), "counts": tuple(values["counts"])})


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores before any update on the group: of the teacher's text and of each text, and how many updates there had been."""

    teacher: float
    texts: tuple[float, ...]
    updates: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Answer:
        return cls(values["teacher"], tuple(values["texts"]), values["updates"])


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """Both: all that an update on it needs."""

    asked: AskedGroup
    answer: Answer

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScoredGroup:
        return cls(AskedGroup.from_json(values["asked"]), Answer.from_json(values["answer"]))
