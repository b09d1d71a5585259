"""The operator's price table: what a provider takes for the tokens that it reads and writes.

prices:
  judge:                        # the teacher's name at the teacher service
    prompt_usd_per_million: 2.5
    completion_usd_per_million: 10
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from preceptor.errors import ConfigurationError
from preceptor.planning.ranges import Range
from preceptor.recipes.load import validate
from preceptor.recipes.strict_yaml import read_yaml


class Price(BaseModel):
    """Of one teacher behind an API."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    prompt_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    """For a million tokens that it reads."""

    completion_usd_per_million: float = Field(ge=0, allow_inf_nan=False)
    """For a million tokens that it writes."""

    cached_prompt_usd_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For a million tokens that it knows from its own prompt cache; unset: no discount."""

    cache_write_usd_per_million: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For a million tokens that it reads and writes into that cache; unset: nothing beyond reading them."""

    @property
    def cached_usd_per_million(self) -> float:
        own = self.cached_prompt_usd_per_million
        return self.prompt_usd_per_million if own is None else own

    @property
    def written_usd_per_million(self) -> float:
        own = self.cache_write_usd_per_million
        return self.prompt_usd_per_million if own is None else own

    def of(self, prompt_tokens: Range, completion_tokens: Range) -> Range:
        """Dollars."""
        return prompt_tokens * (self.prompt_usd_per_million / 1e6) + completion_tokens * (self.completion_usd_per_million / 1e6)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    prices: dict[str, Price]


def read_prices(path: Path | None) -> dict[str, Price]:
    """By the teacher's name; empty without a file."""
    if path is None:
        return {}
    raw: Any = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path} is no price table", field="prices_file", value=str(path), limit="one key: prices")
    return dict(validate(_Table, cast(dict[str, Any], raw), str(path)).prices)
