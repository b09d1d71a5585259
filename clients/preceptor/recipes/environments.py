"""Who answers the student between the turns of a rollout, as a source names it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from preceptor.recipes.schedules import FROZEN

ENVIRONMENT = "environment"
"""The signal that is an environment's reward, and the name under which it speaks where others have a teacher."""

TURN_ENGINES = ("hf", "vllm")
"""Engines of the rollout service whose draws go on behind an answer."""

MAX_TURNS, MAX_OBSERVATION_TOKENS = 8, 256


class EnvironmentChoice(BaseModel):
    """An environment that the rollout service offers, what it is told of each prompt, and how far it goes."""

    model_config = FROZEN

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
    """The operator's name for it, in `rollout.environments` of the service that draws."""

    task_fields: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """The keys of each line of the data that it is told, as they stand; the student never reads them."""

    max_turns: int = Field(default=MAX_TURNS, ge=1, le=1024)
    """Replies of the student; a rollout that would go on counts as truncated."""

    max_observation_tokens: int = Field(default=MAX_OBSERVATION_TOKENS, ge=1, le=1_048_576)
    """Of one answer, as rendered; a rollout whose answer is longer fails."""

    @property
    def observed_tokens(self) -> int:
        """Most tokens that its answers add to a rollout."""
        return (self.max_turns - 1) * self.max_observation_tokens
