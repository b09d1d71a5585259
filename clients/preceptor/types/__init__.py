"""Typed values that travel between modules: frozen, numpy inside, independent of protobuf.

`preceptor.wire` turns each of them into its message and back.
"""

from preceptor.codec import Grade, HiddenDtype, Validity
from preceptor.types.grades import Criterion, CriterionVerdict, GradeItem, Verdict
from preceptor.types.models import AdapterRef, Capabilities, ModelInfo, ModelRef
from preceptor.types.rollouts import Behaviour, FinishReason, Provenance, Rollout, RolloutId
from preceptor.types.scores import CacheTier, Hidden, IdLogprobs, RaggedLogprobs, Receipt, Rows, Scored, TimeSplit
from preceptor.types.sequences import Ids, RaggedIds, Segment, SegmentKind, Sequence, as_ids
from preceptor.types.status import (
    BudgetStatus,
    EngineStatus,
    FlowStatus,
    QueueStatus,
    ServiceState,
    TeacherStanding,
    TeacherState,
    TeacherStatus,
)
from preceptor.types.wants import ScoreItem, TailOf, Want, Window

__all__ = [
    "AdapterRef",
    "Behaviour",
    "BudgetStatus",
    "CacheTier",
    "Capabilities",
    "Criterion",
    "CriterionVerdict",
    "EngineStatus",
    "FinishReason",
    "FlowStatus",
    "Grade",
    "GradeItem",
    "Hidden",
    "HiddenDtype",
    "IdLogprobs",
    "Ids",
    "ModelInfo",
    "ModelRef",
    "Provenance",
    "QueueStatus",
    "RaggedIds",
    "RaggedLogprobs",
    "Receipt",
    "Rollout",
    "RolloutId",
    "Rows",
    "ScoreItem",
    "Scored",
    "Segment",
    "SegmentKind",
    "Sequence",
    "ServiceState",
    "TailOf",
    "TeacherStanding",
    "TeacherState",
    "TeacherStatus",
    "TimeSplit",
    "Validity",
    "Verdict",
    "Want",
    "Window",
    "as_ids",
]
