"""What was applied: the last steps with their digests and replies, so that a repeat is answered and a conflict is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from preceptor.errors import Conflict, Gap

REMEMBERED_STEPS = 256


@dataclass(frozen=True, slots=True)
class Applied:
    """One applied step and what was answered."""

    step: int
    batch_sha256: bytes
    metrics: dict[str, float] = field(default_factory=dict)
    valid_rows: int = 0
    skipped_rows: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "batch_sha256": self.batch_sha256.hex(),
            "metrics": self.metrics,
            "valid_rows": self.valid_rows,
            "skipped_rows": self.skipped_rows,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Applied:
        return cls(**{**values, "batch_sha256": bytes.fromhex(values["batch_sha256"])})


class History:
    """The newest steps, oldest first."""

    def __init__(self, applied: Iterable[Applied] = ()) -> None:
        self._applied = {one.step: one for one in applied}

    @property
    def last(self) -> Applied:
        """The newest step; step 0 where there is none."""
        return self._applied[max(self._applied)] if self._applied else Applied(0, b"")

    def find(self, step: int, batch_sha256: bytes) -> Applied | None:
        """What was answered to this step, or None where it is the next one; `Conflict` or `Gap` otherwise."""
        newest = self.last.step
        if step == newest + 1:
            return None
        if step > newest:
            raise Gap(f"step {step} comes after step {newest}", field="step", value=step, limit=newest + 1,
                      hint="send the steps in between again")  # fmt: skip
        known = self._applied.get(step)
        if known is None:
            raise Conflict(f"step {step} was applied too long ago to compare", field="step", value=step, limit=newest + 1)
        if known.batch_sha256 != batch_sha256:
            raise Conflict(
                f"step {step} was applied with another batch", field="batch_sha256", value=batch_sha256.hex(),
                limit=known.batch_sha256.hex(), hint="open the run again and send from durable_step + 1",
            )  # fmt: skip
        return known

    def add(self, applied: Applied) -> None:
        self._applied[applied.step] = applied
        self._applied.pop(applied.step - REMEMBERED_STEPS, None)

    def to_json(self) -> list[dict[str, Any]]:
        return [one.to_json() for one in self._applied.values()]
