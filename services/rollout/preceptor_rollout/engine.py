"""The generation engine: versions of one student, and the calls that render and draw. It lives in a process of its own.

Weights are swapped between units: a unit ends under the version it began with, whatever is loaded or dropped meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from preceptor.errors import Conflict, Unsupported, VersionGone
from preceptor.types import ModelInfo, ModelRef
from preceptor_rollout import chunks
from preceptor_rollout.calls import ANSWERED, GENERATE, GUIDED, LEFT, STUDENT
from preceptor_rollout.growth import Growth
from preceptor_rollout.guide import Question
from preceptor_rollout.options import GenerationOptions
from preceptor_rollout.student import Student, load_student
from preceptor_rollout.texts import TextCalls, student_reply
from preceptor_rollout.turns import Parked
from preceptor_rollout.units import Unit
from preceptor_rollout.vocabulary import Vocabulary
from preceptor_serving.engine_host.frames import split_name
from preceptor_serving.engines.protocol import Method, Outcome, ScoreItem
from preceptor_serving.models.versions import VersionLoader

TURN_S = 0.1  # at most so long, plus one token, until a cancelled unit stops and another call gets its turn


def create(options: Mapping[str, Any]) -> GenerationEngine:
    """The factory that the engine registry names."""
    return GenerationEngine(GenerationOptions.from_mapping(options))


class GenerationEngine:
    """An `Engine` over transformers. It sets this process's thread count: it is meant to be alone in it."""

    def __init__(self, options: GenerationOptions) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self._vocabulary = Vocabulary.of(options.folder)
        self._texts = TextCalls(self._vocabulary)
        self._students: dict[ModelRef, Student] = {}  # the one used last at the end
        self._loader = VersionLoader(options.folder, options.dtype, options.device)
        self._add(load_student(options, self._loader, options.folder, self._vocabulary, None))
        self._parked = Parked()

    def describe(self) -> tuple[ModelInfo, ...]:
        return tuple(student.info for student in reversed(self._students.values()))

    def score(self, items: Sequence[ScoreItem], version: ModelRef | None = None) -> list[Outcome]:
        raise Unsupported("a rollout service does not score", field="method", value="score", hint="ask a teacher service")

    def methods(self) -> Mapping[str, Method]:
        return {
            ANSWERED: self._parked.answered,
            GENERATE: self._generate,
            GUIDED: self._guided,
            LEFT: self._parked.left,
            STUDENT: self._student,
            **self._texts.methods(),
        }

    def load_version(self, version: ModelRef, folder: str) -> None:
        if version not in self._students:
            self._add(load_student(self.options, self._loader, Path(folder), self._vocabulary, version))

    def drop_version(self, version: ModelRef) -> None:
        if self._students.keys() == {version}:
            raise Conflict("the last version cannot be dropped", field="version", value=version.step)
        self._students.pop(version, None)

    def close(self) -> None:
        self._students.clear()
        self._parked.clear()

    def _add(self, student: Student) -> None:
        """Keeps it, and lets go of those not used for longest. Whoever needs one of them again loads it again."""
        self._students[student.info.model] = student
        while len(self._students) > self.options.max_versions:
            del self._students[next(iter(self._students))]

    def _find(self, version: ModelRef) -> Student:
        student = self._students.pop(version, None)
        if student is None:
            raise VersionGone("this version is not loaded", field="version", value=version.step)
        self._students[version] = student
        return student

    def _generate(self, payload: bytes) -> Iterator[bytes]:
        """`Unit` in, lists of chunks out; an empty list whenever `TURN_S` has passed, so that others get their turn."""
        unit = Unit.from_bytes(payload)
        began = time.monotonic()
        for due in self._growth(unit).steps():
            assert not isinstance(due, Question), "a unit with a teacher in its loop is called with GUIDED"
            if due or time.monotonic() - began > TURN_S:
                yield chunks.to_bytes(due)
                began = time.monotonic()

    def _guided(self, payload: bytes) -> Iterator[bytes]:
        """The name and the `Unit` of one with a teacher in its loop in, turns out."""
        name, unit = split_name(payload)
        yield from self._parked.begin(name, self._growth(Unit.from_bytes(unit)).steps())

    def _growth(self, unit: Unit) -> Growth:
        return Growth(self._find(unit.version), unit.request, self.options.log_chunk_tokens, self.options.batch_tokens)

    def _student(self, payload: bytes) -> Iterator[bytes]:
        """Nothing in; RolloutDescribeReply of the newest version out."""
        newest = next(reversed(self._students.values()))
        yield student_reply(newest.info, newest.eos_ids, guided=True)
