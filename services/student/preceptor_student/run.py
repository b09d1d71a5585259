"""One training run in this process: opened under an epoch, stepped once per step, made durable, published."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from preceptor import names
from preceptor.errors import Conflict, Fenced, InvalidArgument, Unavailable
from preceptor.recipes import Copy, RunConfig, objective_from_json
from preceptor.types import ModelRef
from preceptor_proto.v1 import student_pb2
from preceptor_serving.durable import make_folder
from preceptor_serving.weights import copies_folder
from preceptor_student import checkpoints, publishing
from preceptor_student.bases import Bases
from preceptor_student.history import Applied, History
from preceptor_student.run_folder import RunFolder, ref_to_json
from preceptor_student.trainer import Trainer
from preceptor_student.update import Outcome

TrainerFor = Callable[[str, RunConfig], Trainer]
"""Makes the trainer of a run of that name."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What the operator decides for every run."""

    bases: Bases
    model_name: str
    keep_checkpoints: int
    keep_versions: int
    trainer_for: TrainerFor

    def kept(self, config: RunConfig) -> dict[str, Any]:
        """What a run is, as run.json has it."""
        kept = config.model_dump(mode="json", exclude={"look_back_steps"}) | {"base_sha256": self.bases.sha256.hex()}
        return kept if config.copies else {key: value for key, value in kept.items() if key != "copies"}


class Run:
    """Open, with its weights in memory. Every writing call names the epoch; calls of another epoch are `Fenced`."""

    def __init__(self, folder: RunFolder, settings: RunSettings, config: RunConfig, restore_step: int | None) -> None:
        self.folder, self._settings = folder, settings
        self.trainer = settings.trainer_for(folder.path.name, config)
        self._history, checkpoint = self._restored(restore_step)
        folder.keep_config(settings.kept(config))
        self.epoch = folder.take_over(self._history.last.step, checkpoint.hex())
        self._busy = False

    @property
    def is_durable(self) -> bool:
        """Whether closing the run would lose nothing."""
        return not self._busy and self._history.last.step == self.folder.head.durable_step

    @property
    def is_torn(self) -> bool:
        """Whether a step ended between two weights: what is in memory is of no step."""
        return self.trainer.updater.is_halfway

    @property
    def applied(self) -> Applied:
        return self._history.last

    @property
    def durable_step(self) -> int:
        return self.folder.head.durable_step

    def step(self, header: student_pb2.StepHeader, micro_batches: Sequence[bytes]) -> Generator[None, None, tuple[Applied, bool]]:
        """Applies the step once; the record, and whether it had been applied before. Pauses after each micro-batch."""
        self._check_epoch(header.epoch)
        _check_digest(header, micro_batches)
        known = self._history.find(header.step, header.batch_sha256)
        if known is not None:
            return known, True
        objective = objective_from_json(header.objective.schema, header.objective.json)
        with self._alone():
            outcome = yield from self.trainer.step(objective, header.step, micro_batches)
            applied = Applied(header.step, header.batch_sha256, outcome.metrics, outcome.valid_rows, outcome.skipped_rows)
            self._history.add(applied)
        return applied, False

    def evaluate(self, objective: student_pb2.ObjectiveSpec, batch: student_pb2.MicroBatch) -> Outcome:
        """The loss of the step that would come next, on other data; the weights stay."""
        spec = objective_from_json(objective.schema, objective.json)
        with self._alone():
            return self.trainer.evaluate(spec, self._history.last.step + 1, batch.SerializeToString())

    def checkpoint(self, epoch: int) -> bytes:
        """Makes the applied step durable; the digest of its manifest. Asked again, it answers from the record."""
        self._check_epoch(epoch)
        head, step = self.folder.head, self._history.last.step
        if step == head.durable_step:
            return bytes.fromhex(head.checkpoint_sha256)
        with self._alone():
            digest = checkpoints.save(self.folder.checkpoint(step), self.trainer, self._history)
            self.folder.set_head(replace(head, durable_step=step, checkpoint_sha256=digest.hex()))
            checkpoints.prune(self.folder.checkpoints, self._settings.keep_checkpoints, step)
        return digest

    def publish(self, epoch: int) -> ModelRef:
        """Writes the current weights as a version and names it."""
        self._check_epoch(epoch)
        ref = ModelRef(self._settings.model_name, self.folder.path.name, self.epoch, self._history.last.step)
        with self._alone():
            versions = self.folder.path / "versions"
            ref = publishing.publish(versions, self._settings.bases, self.trainer, ref)
            copies = {name: self._copied(name, copy, ref) for name, copy in self.trainer.config.copies.items()}
            told = {name: ref_to_json(copy) for name, copy in copies.items()}
            self.folder.set_head(replace(self.folder.head, published=ref_to_json(ref), copies=told))
            since = max(0, ref.step - self.trainer.config.look_back_steps)
            taken = {copy.taken_at(step) for copy in self.trainer.config.copies.values() for step in range(since, ref.step + 1)}
            publishing.prune(versions, self._settings.keep_versions, since, taken)
        return ref

    def close(self) -> None:
        """Others may have the run and its memory."""
        self.trainer.close()
        self.folder.close()

    def _copied(self, name: str, copy: Copy, ref: ModelRef) -> ModelRef:
        """What teaches under this name from now on: a mean is written, every other copy is a version that is there."""
        if copy.kind == "ema":
            folder = copies_folder(self.folder.path) / name
            make_folder(folder)
            mean = publishing.publish(folder, self._settings.bases, self.trainer, replace(ref, name=f"{ref.name}.{name}"), name)
            publishing.prune(folder, self._settings.keep_versions, ref.step - self.trainer.config.look_back_steps)
            return mean
        due = copy.taken_at(ref.step)
        known = self.folder.head.copy_refs.get(name)
        found = ref if due == ref.step else known
        if found is None or found.step != due:
            raise Conflict(
                f"copy {name} is of step {due}, which was not published", field=f"copies.{name}", value=due,
                limit="nothing" if known is None else known.step, hint="publish the steps at which a copy is taken",
            )  # fmt: skip
        return found

    def _restored(self, restore_step: int | None) -> tuple[History, bytes]:
        head = self.folder.head
        step = head.durable_step if restore_step is None else restore_step
        if step == 0:
            return History(), b""
        digest = bytes.fromhex(head.checkpoint_sha256) if step == head.durable_step else None
        return checkpoints.restore(self.folder.checkpoint(step), digest, self.trainer)

    def _check_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            raise Fenced(f"epoch {epoch} does not write this run", field="epoch", value=epoch, limit=self.epoch,
                         hint="another learner has opened the run since; open it again to take it back")  # fmt: skip

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time: a step pauses, and nothing may come in between."""
        if self._busy:
            raise Unavailable("a step of this run is being computed", field="run", hint="wait for its reply", retry_after_s=0.5)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False


def _check_digest(header: student_pb2.StepHeader, micro_batches: Sequence[bytes]) -> None:
    if len(micro_batches) != header.micro_batches:
        raise InvalidArgument("micro-batches are missing or too many", field="header.micro_batches",
                              value=len(micro_batches), limit=header.micro_batches)  # fmt: skip
    digest = names.batch_digest(micro_batches)
    if digest != header.batch_sha256:
        raise InvalidArgument("the micro-batches are not those that the header names", field="header.batch_sha256",
                              value=digest.hex(), limit=header.batch_sha256.hex())  # fmt: skip
