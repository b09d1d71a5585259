"""What a `FakeEngine` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from preceptor.errors import ConfigurationError
from preceptor.suggest import did_you_mean

MAX_TABLE_ENTRIES = 1 << 26  # states x head rows, in f32: 256 MiB


@dataclass(frozen=True, slots=True)
class FakeOptions:
    """The model's shape, its speed, and the failures to stage. Token ids below are looked for in what is scored."""

    name: str = "fake"
    seed: int = 0
    tokenizer_size: int = 61
    head_rows: int = 64
    states: int = 512
    max_sequence_tokens: int = 131_072
    max_samples: int = 4096
    max_candidates_per_row: int | None = None  # None: the whole vocabulary
    load_s: float = 0.0
    tokens_per_s: float = 0.0  # 0: no time passes
    rows_per_s: float = 0.0
    refuse_token: int | None = None  # this item fails, typed
    defect_token: int | None = None  # the whole call raises something unforeseen
    crash_token: int | None = None  # the process dies at once
    hang_token: int | None = None  # the call never returns
    crash_on_call: int | None = None  # the n-th score call, counted from 1
    fail_to_load: bool = False

    def __post_init__(self) -> None:
        if not 2 <= self.tokenizer_size <= self.head_rows:
            self._refuse("tokenizer_size", f"2 .. head_rows ({self.head_rows})")
        if self.states < 1 or self.states * self.head_rows > MAX_TABLE_ENTRIES:
            self._refuse("states", f"1 .. {MAX_TABLE_ENTRIES // self.head_rows}")

    def _refuse(self, field: str, limit: str) -> None:
        value = getattr(self, field)
        raise ConfigurationError(f"fake engine: {field} is {value}", field=field, value=value, limit=limit)

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> FakeOptions:
        """Options from a configuration; unknown names are refused."""
        names = [field.name for field in fields(cls)]
        for name in options:
            if name not in names:
                hint = did_you_mean(name, names)
                raise ConfigurationError(f"the fake engine has no option {name!r}", field=name, value=options[name], hint=hint)
        return cls(**options)
