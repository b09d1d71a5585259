"""What one job has trained: a discriminator that scores groups, learns from them, and is the same after any kill.

A group that was asked about before has the scores that it had then, and is not learned from again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from preceptor.errors import Conflict, Corrupt
from preceptor.logs import get_logger
from preceptor_serving.durable import make_folder, remove_leftovers, write_file
from preceptor_teacher.discriminator import checkpoints, journal
from preceptor_teacher.discriminator.groups import Answer, AskedGroup, ScoredGroup
from preceptor_teacher.discriminator.learning import Meters, Trainer
from preceptor_teacher.discriminator.params import DiscriminatorParams

log = get_logger("preceptor.discriminator")
MOST_ANSWERS = 4096
"""Groups whose scores are kept; who asks again after so many others is a new group."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """When checkpoints are written, and how many stay."""

    every_updates: int = 16
    keep: int = 2


@dataclass(frozen=True, slots=True)
class Standing:
    """Where it stands, beside what its last update saw."""

    updates: int = 0
    skipped: int = 0  # updates whose gradient was not finite: they moved nothing, and count as updates too
    last: Meters | None = None


class JobDiscriminator:
    """Used by one thread of one process at a time."""

    def __init__(self, folder: Path, trainer: Trainer, params: DiscriminatorParams, keeping: Keeping, base_sha256: str) -> None:
        """As it was left, or new. `Conflict` where the job began with other parameters or another model."""
        self._folder, self._trainer, self._params, self._keeping = folder, trainer, params, keeping
        self.standing = Standing()
        self._answers: dict[str, Answer] = {}
        self._pending: list[ScoredGroup] = []
        make_folder(folder)
        remove_leftovers(folder)
        self._base_sha256 = base_sha256
        self.check(params)
        self._checkpoint = self._journal = self._restore()
        self._replay()

    def check(self, params: DiscriminatorParams) -> None:
        """`Conflict` where these are not the parameters, or this not the model, that the job began with."""
        path = self._folder / "job.json"
        now = {"params": params.model_dump(), "base_sha256": self._base_sha256}
        if not path.exists():
            write_file(path, json.dumps(now).encode())
            return
        try:
            began = {field: json.loads(path.read_bytes())[field] for field in now}
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{path} does not say how the job began", field=path.name, value=str(error)) from None
        for field, where in (("params", "spec.parameters_json"), ("base_sha256", "folder")):
            if began[field] != now[field]:
                raise Conflict(
                    "the job's discriminator began otherwise", field=where, value=now[field], limit=began[field],
                    hint="a run of another name has a discriminator of its own",
                )  # fmt: skip

    def grade(self, asked: AskedGroup) -> Answer:
        """Its scores, told before anything is learned from it. Durable when it returns, and so is the update it brought about."""
        if asked.digest not in self._answers:
            different = list(dict.fromkeys([asked.teacher, *asked.texts]))  # rows of a batch may differ in their last bits
            scores = dict(zip(different, self._trainer.score(asked.prompt, different), strict=True))
            answer = Answer(scores[asked.teacher], tuple(scores[text] for text in asked.texts), self.standing.updates)
            scored = ScoredGroup(asked, answer)
            journal.append(checkpoints.journal_file(self._folder, self._journal), scored.to_json())
            self._take(scored)
            if not self._pending and self.standing.updates - self._checkpoint >= self._keeping.every_updates:
                self._save()
        return self._answers[asked.digest]

    def _take(self, scored: ScoredGroup) -> None:
        """Remembers, and learns once enough came together: in the order of their digests, whatever order they came in."""
        self._answers[scored.asked.digest] = scored.answer
        while len(self._answers) > MOST_ANSWERS:
            del self._answers[next(iter(self._answers))]
        self._pending.append(scored)
        if len(self._pending) < self._params.groups_per_update:
            return
        meters = self._trainer.update(sorted(self._pending, key=lambda one: one.asked.digest))
        before, self._pending = self.standing, []
        if meters is None:
            log.warning("discriminator_update_skipped", folder=str(self._folder), update=before.updates + 1)
        self.standing = Standing(before.updates + 1, before.skipped + (meters is None), meters or before.last)

    def _save(self) -> None:
        answers = {digest: asdict(answer) for digest, answer in self._answers.items()}
        state = {"standing": asdict(self.standing), "answers": answers}
        folder = checkpoints.step_folder(self._folder, self.standing.updates)
        checkpoints.save(folder, self._trainer, state)
        self._checkpoint = self._journal = self.standing.updates
        checkpoints.prune(self._folder, self._keeping.keep)

    def _restore(self) -> int:
        """Takes the newest checkpoint; the number of its updates, 0 where there is none."""
        found = checkpoints.steps(self._folder)
        if not found:
            return 0
        state = checkpoints.restore(checkpoints.step_folder(self._folder, found[-1]), self._trainer)
        standing, last = state["standing"], state["standing"]["last"]
        self.standing = Standing(standing["updates"], standing["skipped"], Meters(**last) if last else None)
        self._answers = {digest: Answer.from_json(one) for digest, one in state["answers"].items()}
        return found[-1]

    def _replay(self) -> None:
        """Does again what came after the checkpoint."""
        for number in [one for one in checkpoints.journals(self._folder) if one >= self._checkpoint]:
            if number != self.standing.updates or self._pending:
                raise Corrupt(
                    "groups before this journal are missing", field=f"journal-{number}.jsonl", value=self.standing.updates
                )
            self._journal = number
            for values in journal.read(checkpoints.journal_file(self._folder, number)):
                self._take(ScoredGroup.from_json(values))
