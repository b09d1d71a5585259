"""What the rollout service counts beside the frame's own metrics; docs/rollouts.md lists it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from preceptor_proto.v1 import common_pb2, rollout_pb2


class GenerationMeters:
    """Counters over all jobs of the service."""

    def __init__(self, registry: CollectorRegistry, waiting_units: Callable[[], int]) -> None:
        self._tokens = Counter("preceptor_generated_tokens", "Response tokens of rollouts that ended", registry=registry)
        self._rollouts = Counter("preceptor_rollouts", "Rollouts by how they ended", ("outcome",), registry=registry)
        waiting = Gauge("preceptor_waiting_units", "Batches that wait for their turn", registry=registry)
        waiting.set_function(waiting_units)

    def count(self, reply: rollout_pb2.GenerateReply) -> None:
        """One outcome."""
        if reply.WhichOneof("outcome") == "failure":
            self._rollouts.labels("failed").inc()
            return
        rollout = reply.rollout
        name = common_pb2.FinishReason.Name(rollout.finish_reason)
        self._rollouts.labels(name.removeprefix("FINISH_REASON_").lower()).inc()
        self._tokens.inc(sum(len(segment.response.u32le) // 4 for segment in rollout.sequence.segments))
