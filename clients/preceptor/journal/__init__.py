"""The learner's local journal: what a run has done, on disk before anything else may forget it.

`Journal` is the append-only file, `GroupCommit` shares it between coroutines, `LearnerJournal` is the typed layer that a
learner uses, and `replay` is the pure function from records to `LearnerState`.
"""

from preceptor.journal.disk import Disk
from preceptor.journal.frame import Entry, Record
from preceptor.journal.group import GroupCommit
from preceptor.journal.journal import COMPACTION_POINTS, Journal, TornTail
from preceptor.journal.learner import LearnerJournal
from preceptor.journal.records import (
    AttemptStarted,
    BatchSent,
    JournalRecord,
    OutPosition,
    PromptTaken,
    RolloutClosed,
    RolloutDropped,
    RolloutReleased,
    RolloutSkipped,
    RowsReceived,
    RunEnded,
    StepApplied,
    StepDurable,
    TaskEnded,
    TaskOpened,
)
from preceptor.journal.state import LearnerState, OpenTask, ResumePoint, RolloutKey, TaskProgress, records_of, replay

__all__ = [
    "COMPACTION_POINTS",
    "AttemptStarted",
    "BatchSent",
    "Disk",
    "Entry",
    "GroupCommit",
    "Journal",
    "JournalRecord",
    "LearnerJournal",
    "LearnerState",
    "OpenTask",
    "OutPosition",
    "PromptTaken",
    "Record",
    "ResumePoint",
    "RolloutClosed",
    "RolloutDropped",
    "RolloutKey",
    "RolloutReleased",
    "RolloutSkipped",
    "RowsReceived",
    "RunEnded",
    "StepApplied",
    "StepDurable",
    "TaskEnded",
    "TaskOpened",
    "TaskProgress",
    "TornTail",
    "records_of",
    "replay",
]
