"""What the student service counts beside the frame's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from preceptor_proto.v1 import student_pb2


class TrainingMeters:
    """Counters over all runs of the service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._steps = Counter("preceptor_train_steps", "Steps answered", ("outcome",), registry=registry)
        self._rows = Counter("preceptor_train_rows", "Rows of applied steps", ("outcome",), registry=registry)

    def count(self, reply: student_pb2.StepReply) -> None:
        """One answered step."""
        self._steps.labels("repeated" if reply.repeated_step else "applied").inc()
        if not reply.repeated_step:
            self._rows.labels("valid").inc(reply.valid_rows)
            self._rows.labels("skipped").inc(reply.skipped_rows)
