"""What a recipe says of the discriminator of its job."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DiscriminatorParams(BaseModel):
    """How it learns. A job's first request sets them for good."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    learning_rate: float = Field(default=1e-4, gt=0, le=1, allow_inf_nan=False)
    """Of its AdamW."""

    groups_per_update: int = Field(default=1, ge=1, le=4096)
    """One update each time so many groups were scored, on all their pairs; the prompts of a step: one update a step."""

    warmup_updates: int = Field(default=0, ge=0, le=100_000)
    """Until it has taken so many, every reward is 0: it learns, and the student stands still."""
