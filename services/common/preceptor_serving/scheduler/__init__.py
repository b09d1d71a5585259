"""The one scheduler between doors and engines: fair between flows, by deadline inside a flow, pure and deterministic.

    scheduler = Scheduler(CostRule(row_cost_tokens=0.25))
    flow = FlowKey("teacher", "tenant", "job", band=1)
    scheduler.submit(Task("t1", flow, Work(new_tokens=512, rows=256), weight=1.0), now_s=0.0)
    batch = scheduler.next_batch(0.0, budget_tokens=8_192, max_tasks=64)
    scheduler.finish("t1", 0.1, Work(new_tokens=512, rows=256))

docs/scheduling.md has the rules and the proof of the bound.
"""

from preceptor_serving.scheduler.clocks import Charge, ClockTable, MemoryClocks
from preceptor_serving.scheduler.cost import CostRule
from preceptor_serving.scheduler.estimate import FlowLoad, QueueEstimate
from preceptor_serving.scheduler.ready import MemoryReady, ReadyFlow, ReadySource
from preceptor_serving.scheduler.scheduler import LOWER_BAND_SHARE, Scheduler
from preceptor_serving.scheduler.types import (
    Batch,
    CancelResult,
    Dropped,
    DropReason,
    FlowKey,
    QueueLimits,
    Settlement,
    Task,
    Work,
)

__all__ = [
    "LOWER_BAND_SHARE",
    "Batch",
    "CancelResult",
    "Charge",
    "ClockTable",
    "CostRule",
    "DropReason",
    "Dropped",
    "FlowKey",
    "FlowLoad",
    "MemoryClocks",
    "MemoryReady",
    "QueueEstimate",
    "QueueLimits",
    "ReadyFlow",
    "ReadySource",
    "Scheduler",
    "Settlement",
    "Task",
    "Work",
]
