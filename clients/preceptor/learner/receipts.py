"""Who scored a step: one line for each teacher and version of its weights, read off the receipts in the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from preceptor.journal import LearnerState
from preceptor.learner.plan import RunPlan
from preceptor.learner.requests import grade_name
from preceptor.learner.stages import closed_rollouts, score_names
from preceptor_proto.v1 import common_pb2, teacher_pb2

SHOWN_DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class Scored:
    """What one teacher did for a step."""

    teacher: str
    model: str
    manifest: str
    engine: str
    dtype: str
    tokens_computed: int
    tokens_reused: int

    @property
    def who(self) -> tuple[str, ...]:
        """Everything but the counts."""
        return (self.teacher, self.model, self.manifest, self.engine, self.dtype)


def receipts_of(state: LearnerState, plan: RunPlan, index: int) -> list[dict[str, object]]:
    """Before the step is released; sums over its receipts."""
    found: dict[tuple[str, ...], Scored] = {}
    for one in _receipts(state, plan, index):
        known = found.get(one.who, replace(one, tokens_computed=0, tokens_reused=0))
        found[one.who] = replace(
            known,
            tokens_computed=known.tokens_computed + one.tokens_computed,
            tokens_reused=known.tokens_reused + one.tokens_reused,
        )
    return [asdict(one) for one in found.values()]


def _receipts(state: LearnerState, plan: RunPlan, index: int) -> Iterator[Scored]:
    for closed in closed_rollouts(state, plan, index):
        slot = plan.slot_of(closed.rollout.sample)
        names = list(score_names(state, plan, closed).items())
        names += [(grader.name, grade_name(closed.rollout, grader)) for grader in slot.graders]
        for teacher, name in names:
            for part in state.tasks[name].rows:
                envelope = teacher_pb2.Envelope.FromString(part.payload)
                if envelope.HasField("receipt"):
                    yield _scored(teacher, envelope.receipt)


def _scored(teacher: str, receipt: common_pb2.Receipt) -> Scored:
    manifest = receipt.model.manifest_sha256.hex()[:SHOWN_DIGEST_CHARS]
    engine = f"{receipt.engine} {receipt.engine_version}".strip()
    computed, reused = receipt.tokens_computed, receipt.tokens_reused
    return Scored(teacher, receipt.model.name, manifest, engine, receipt.dtype, computed, reused)
