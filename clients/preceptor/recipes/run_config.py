"""`RunConfig`: what a training run is opened with. The student keeps it, and refuses to go on under another."""

from __future__ import annotations

from pydantic import BaseModel, Field

from preceptor.recipes.copies import Copy
from preceptor.recipes.schedules import FROZEN
from preceptor.recipes.schema import Name, Optimizer, Training


class RunConfig(BaseModel):
    """The `config_json` of `OpenRun`."""

    model_config = FROZEN

    optimizer: Optimizer
    training: Training = Training()

    copies: dict[Name, Copy] = Field(default_factory=dict[str, Copy])
    """Which copies of the student teach it, by the recipe's name for each; published with its weights."""

    look_back_steps: int = Field(default=0, ge=0)
    """Versions of the last so many steps may still be named by open rollouts; publishing keeps them. It is no part of what the
    run is: a resumed one may have another."""

    seed: int = Field(default=0, ge=0, lt=1 << 64)
    """Keys what adapters start from."""
