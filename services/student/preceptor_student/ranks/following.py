"""What ranks other than 0 do: the same as rank 0, when it says so, until it says stop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from preceptor.errors import PreceptorError, WrongPair
from preceptor.recipes import ObjectiveSpec, RunConfig, objective_from_json
from preceptor.recipes.load import validate
from preceptor_serving.durable import told_when_full
from preceptor_student.bases import Bases
from preceptor_student.ranks.group import Group
from preceptor_student.ranks.shards import Shard
from preceptor_student.teacher_heads import TeacherHeads
from preceptor_student.trainer import Trainer

log = logging.getLogger("preceptor.engine")
Command = dict[str, Any]


class Follower:
    """One rank's trainers by run."""

    def __init__(self, group: Group, shard: Shard, bases: Bases, heads: TeacherHeads) -> None:
        self._group, self._shard, self._bases, self._heads = group, shard, bases, heads
        self._trainers: dict[str, Trainer] = {}
        self._calls: dict[str, Callable[[Command, Sequence[bytes]], None]] = {
            "open": self._open,
            "step": self._step,
            "evaluate": lambda command, payloads: _drop(
                self._trainer(command).evaluate(_objective(command), command["step"], payloads[0])
            ),
            "save": lambda command, _: self._agreed("writing a checkpoint", self._trainer(command).save, command),
            "load": lambda command, _: self._agreed("reading a checkpoint", self._trainer(command).load, command),
            "gather": lambda command, _: _drop(self._trainer(command).whole_weights(command["mean"])),
            "close": lambda command, _: _drop(self._trainers.pop(command["run"], None)),
        }

    def run(self) -> None:
        """Returns when rank 0 says stop; raises `Unavailable` when it is gone or out of step."""
        while (heard := self._group.hear())[0]["do"] != "stop":
            command, payloads = heard
            with self._group.in_step(f"following {command['do']!r}"):
                try:
                    self._calls[command["do"]](command, payloads)
                except PreceptorError as error:
                    if self._group.lost or self._group.is_apart:
                        raise
                    log.info("rank 0 was refused the same: %s", error)
        self._group.end()

    def _open(self, command: Command, _: Sequence[bytes]) -> None:
        self._trainers.pop(command["run"], None)
        self._shard.free()
        with self._group.agreed("opening a run"):
            if command["base_sha256"] != self._bases.sha256.hex():
                raise WrongPair("this rank has another base", field="base", value=self._bases.sha256.hex(),
                                limit=command["base_sha256"])  # fmt: skip
            config = validate(RunConfig, command["config"], "config")
            self._trainers[command["run"]] = Trainer(self._bases, config, self._heads, self._shard)

    def _step(self, command: Command, payloads: Sequence[bytes]) -> None:
        work = self._trainer(command).step(_objective(command), command["step"], payloads)
        for _ in work:
            if self._group.hear()[0]["do"] == "abandon":
                work.close()

    def _agreed(self, what: str, call: Callable[[Path], None], command: Command) -> None:
        folder = Path(command["folder"])
        with self._group.agreed(what), told_when_full(folder):
            call(folder)

    def _trainer(self, command: Command) -> Trainer:
        return self._trainers[command["run"]]


def _objective(command: Command) -> ObjectiveSpec:
    return objective_from_json(1, command["objective"])


def _drop(_: object) -> None:
    """Rank 0 has the result; here only the work was needed."""
