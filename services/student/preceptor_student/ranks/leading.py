"""The trainer of rank 0: each call is said to the followers first, then computed by all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from torch import Tensor

from preceptor.recipes import ObjectiveSpec, RunConfig
from preceptor_serving.durable import told_when_full
from preceptor_student.bases import Bases
from preceptor_student.ranks.group import Group
from preceptor_student.ranks.shards import Shard
from preceptor_student.teacher_heads import TeacherHeads
from preceptor_student.trainer import Trainer
from preceptor_student.update import Outcome


class LeadingTrainer(Trainer):
    """A `Trainer` whose tensors are shards. `name` tells its copies on the followers from those of other runs."""

    def __init__(self, group: Group, shard: Shard, name: str, bases: Bases, config: RunConfig, heads: TeacherHeads) -> None:
        self._group, self._name = group, name
        group.say({"do": "open", "run": name, "config": config.model_dump(mode="json"), "base_sha256": bases.sha256.hex()})
        shard.free()
        with group.agreed("opening a run"):
            super().__init__(bases, config, heads, shard)

    def step(self, objective: ObjectiveSpec, step: int, micro_batches: Sequence[bytes]) -> Generator[None, None, Outcome]:
        self._say("step", *micro_batches, step=step, objective=objective.to_json())
        work = super().step(objective, step, micro_batches)
        while True:
            with self._group.in_step(f"step {step}"):
                outcome = _advanced(work)
            if outcome is not None:
                return outcome
            try:
                yield
            except GeneratorExit:
                self._say("abandon")
                raise
            self._say("go")

    def evaluate(self, objective: ObjectiveSpec, step: int, batch: bytes) -> Outcome:
        self._say("evaluate", batch, step=step, objective=objective.to_json())
        with self._group.in_step("an evaluation"):
            return super().evaluate(objective, step, batch)

    def save(self, folder: Path) -> None:
        self._say("save", folder=str(folder))
        with self._group.agreed("writing a checkpoint"), told_when_full(folder):
            super().save(folder)

    def load(self, folder: Path) -> None:
        self._say("load", folder=str(folder))
        with self._group.agreed("reading a checkpoint"):
            super().load(folder)

    def whole_weights(self, mean: str = "") -> dict[str, Tensor]:
        self._say("gather", mean=mean)
        with self._group.in_step("gathering the weights"):
            return super().whole_weights(mean)

    def close(self) -> None:
        if not self._group.lost:
            self._say("close")

    def _say(self, do: str, *payloads: bytes, **more: str | int) -> None:
        self._group.say({"do": do, "run": self._name, **more}, *payloads)


def _advanced(work: Generator[None, None, Outcome]) -> Outcome | None:
    """The outcome of work that ends here; None at a pause."""
    try:
        next(work)
    except StopIteration as finished:
        return finished.value
    return None
