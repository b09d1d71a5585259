"""Where every teacher of this service is in its life, those included that are still to be loaded."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

from prometheus_client.registry import Collector

from preceptor.types import TeacherStanding, TeacherState
from preceptor_serving.lifecycle.state import Lifecycle, State
from preceptor_serving.metrics import Meters
from preceptor_teacher.draining import Draining
from preceptor_teacher.grading import GradingTeacher, judge_of
from preceptor_teacher.pool import EnginePool


class Standings:
    """`pools` and `judges` are live: a teacher that is in neither is still to be loaded."""

    def __init__(
        self,
        names: Collection[str],
        pools: Mapping[str, EnginePool],
        judges: Sequence[GradingTeacher],
        draining: Draining,
        lifecycle: Lifecycle,
        meters: Meters,
    ) -> None:
        self._names = tuple(names)
        self._pools, self._judges = pools, judges
        self._draining, self._lifecycle, self._meters = draining, lifecycle, meters

    def __iter__(self) -> Iterator[TeacherStanding]:
        """One for each, in the order in which they were named."""
        ending = self._lifecycle.status().state in (State.DRAINING, State.STOPPED)
        up, starting = by_engine(self._meters.engine_up), by_engine(self._meters.engine_starting)
        heard = by_engine(self._meters.engine_heard)
        for name in self._names:
            ago_s = heard.get(name, math.nan)
            state = self._without_work(name, up.get(name, 1.0) == 1.0, starting.get(name, 0.0) == 1.0)
            if state is None:
                state = TeacherState.DRAINING if ending or name in self._draining.drained else TeacherState.SERVING
            yield TeacherStanding(name, state, None if math.isnan(ago_s) else ago_s)

    def _without_work(self, name: str, up: bool, starting: bool) -> TeacherState | None:
        """Why nothing of it can be answered now; an engine without a process of its own is up as long as this one is."""
        judge = judge_of(self._judges, name)
        if judge is not None:
            return None if judge.trouble is None else TeacherState.DEAD
        if starting or name not in self._pools:
            return TeacherState.STARTING
        return None if up else TeacherState.DEAD


def by_engine(meter: Collector) -> dict[str, float]:
    """Engine -> value."""
    return {sample.labels["engine"]: sample.value for family in meter.collect() for sample in family.samples}
