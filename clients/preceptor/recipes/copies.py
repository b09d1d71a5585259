"""A student's own copies as its teachers: which of its weights a teacher has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from preceptor.recipes.schedules import FROZEN


class Copy(BaseModel):
    """The student at some time, or its running mean; published by the student service and held by the teacher service."""

    model_config = FROZEN

    kind: Literal["frozen", "current", "lagged", "ema"]
    """frozen: as the run began; current: as they draw; lagged: as they were after the last multiple of `every_steps`; ema: the
    mean that every step moves towards the student by 1 - `decay`, in f32."""

    every_steps: int | None = Field(default=None, ge=1)
    """lagged: how often the copy is renewed; a multiple of `schedule.publish_every_steps`."""

    decay: float | None = Field(default=None, ge=0, lt=1)
    """ema: what stays of the mean in a step."""

    @model_validator(mode="after")
    def _has_its_number(self) -> Copy:
        if (self.every_steps is not None) != (self.kind == "lagged"):
            raise ValueError("every_steps belongs to kind lagged, which needs it")
        if (self.decay is not None) != (self.kind == "ema"):
            raise ValueError("decay belongs to kind ema, which needs it")
        return self

    def taken_at(self, step: int) -> int:
        """The step whose weights it has when the student has seen `step` steps."""
        if self.kind == "frozen":
            return 0
        return step - step % self.every_steps if self.every_steps else step


def as_copy(value: object) -> object:
    """`frozen` is short for `{kind: frozen}`."""
    return {"kind": value} if isinstance(value, str) else value
