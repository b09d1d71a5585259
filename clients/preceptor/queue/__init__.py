"""The durable queue between learners, rollout services and teachers: response logs, score tasks, results, dead letters.

`protocol.py` says what a queue does, `memory.py` does it in one process. `LogWriter` and `ScoreStream` are the two clients'
sides; they work on any implementation.
"""

from preceptor.queue.grading import GradeQueue
from preceptor.queue.keys import Flow, LogName
from preceptor.queue.learner import Delivery, ScoreStream, Taken
from preceptor.queue.memory import MemoryQueue
from preceptor.queue.protocol import DeadLetters, Overview, Queue, ResponseLogs, Results, Tasks, Work
from preceptor.queue.types import (
    Appended,
    ClockCharge,
    Committed,
    DeadEntry,
    FlowView,
    Lease,
    LogView,
    OutEntry,
    QueueBounds,
    ReadyBand,
    Reclaimed,
    Subscriber,
    TaskInfo,
    TaskState,
    Then,
)
from preceptor.queue.writer import LogWriter

__all__ = [
    "Appended",
    "ClockCharge",
    "Committed",
    "DeadEntry",
    "DeadLetters",
    "Delivery",
    "Flow",
    "FlowView",
    "GradeQueue",
    "Lease",
    "LogName",
    "LogView",
    "LogWriter",
    "MemoryQueue",
    "OutEntry",
    "Overview",
    "Queue",
    "QueueBounds",
    "ReadyBand",
    "Reclaimed",
    "ResponseLogs",
    "Results",
    "ScoreStream",
    "Subscriber",
    "Taken",
    "TaskInfo",
    "TaskState",
    "Tasks",
    "Then",
    "Work",
]
