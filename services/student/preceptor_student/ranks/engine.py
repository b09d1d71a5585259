"""The two roles over one group: rank 0's engine, which leads, and what every other rank runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.distributed.device_mesh import init_device_mesh

from preceptor.errors import ConfigurationError
from preceptor_student.bases import Bases
from preceptor_student.engine import Options, StudentEngine, prepared
from preceptor_student.ranks.following import Follower
from preceptor_student.ranks.group import Group
from preceptor_student.ranks.leading import LeadingTrainer
from preceptor_student.ranks.shards import Shard
from preceptor_student.run import TrainerFor
from preceptor_student.teacher_heads import TeacherHeads


class LeadingEngine(StudentEngine):
    """The student's engine, whose trainers are spread over the ranks of a group."""

    def __init__(self, options: Mapping[str, Any], group: Group) -> None:
        self._group = group
        chosen = on_cpus(prepared(options))
        shard = Shard(group, init_device_mesh("cpu", (group.ranks,)))

        def trainers(bases: Bases, heads: TeacherHeads) -> TrainerFor:
            return lambda name, config: LeadingTrainer(group, shard, name, bases, config, heads)

        super().__init__(chosen, trainers)

    def close(self) -> None:
        """Lets the followers go; none is waited for where they are out of step already."""
        super().close()
        if not self._group.lost:
            self._group.say({"do": "stop"})
        self._group.end()


def on_cpus(options: Options) -> Options:
    """The options; `ConfigurationError` where they name another device, which ranks do not know how to share out."""
    if options.device != "cpu":
        raise ConfigurationError(
            "ranks train on CPUs",
            field="device",
            value=options.device,
            limit="cpu under torchrun",
            hint="one process may",
        )
    return options


def follow(options: Mapping[str, Any], group: Group) -> None:
    """Does what rank 0 says until it says stop."""
    chosen = on_cpus(prepared(options))
    shard = Shard(group, init_device_mesh("cpu", (group.ranks,)))
    heads = TeacherHeads([Path(folder) for folder in chosen.teacher_heads], chosen.teacher_heads_bytes)
    Follower(group, shard, Bases(Path(chosen.base)), heads).run()
