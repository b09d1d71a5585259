"""Any history of writers, learners and workers that die, repeat themselves and meet jumping clocks.

What must hold: the rows of each task arrive in order, each once, equal to the log's tokens; no two claims on one task are
valid at once; nothing of a cancelled task is committed; and when everybody has calmed down, nothing is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from preceptor.errors import Fenced
from preceptor.queue import LogWriter, ScoreStream, TaskState, Then
from preceptor.queue.keys import flows_key, leases_key
from preceptor_proto.v1 import common_pb2
from tests.contract.queue_rig import (
    BOUNDS,
    EOS,
    FLOW,
    TEACHER,
    Clock,
    Lose,
    OpenQueue,
    Work,
    entry,
    error,
    log_name,
    log_task,
    score,
    segment,
    tokens_of,
)

T = TypeVar("T")
LOGS, WORKERS = st.integers(0, 1), st.sampled_from(["w1", "w2"])
NUMBERS = st.integers(0, 5)


def sample_of(task_id: str) -> int:
    return int(task_id.split("-")[1])


def make_machine(open_queue: OpenQueue, lose: Lose) -> type[RuleBasedStateMachine]:
    """The machine for one implementation."""

    class QueueMachine(RuleBasedStateMachine):
        works: Bundle[Work] = Bundle("works")

        # -------------------------------------------------------- running

        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.clock = Clock()
            self.latest_s = self.clock.now_s
            self.door = open_queue(self.clock, BOUNDS)
            self.queue = self.run(self.door.__aenter__())

        def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
            return self.runner.run(coroutine)

        @initialize()
        def begin(self) -> None:
            self.stream = ScoreStream(self.queue, FLOW)
            self.writers = {sample: LogWriter(self.queue, log_name(sample)) for sample in (0, 1)}
            self.tokens: dict[int, list[int]] = {0: [], 1: []}
            self.closed: set[int] = set()
            self.opened: list[str] = []
            self.cancelled: set[str] = set()
            self.given_up: set[str] = set()
            self.finished: set[str] = set()
            self.journal: dict[str, list[int]] = {}
            self.holder: dict[str, bytes] = {}  # the fence that must be valid, by task
            for sample in (0, 1):
                self.open(sample)
                self.write(sample, 3, poked=True, again=False, closed=False)

        def teardown(self) -> None:
            try:
                if hasattr(self, "stream"):
                    self.calm_down()
            finally:
                self.run(self.door.__aexit__(None, None, None))
                self.runner.close()

        # -------------------------------------------------------- the rollout service

        @rule(
            sample=LOGS,
            count=st.integers(1, 30),
            poked=st.booleans(),
            again=st.booleans(),
            closed=st.sampled_from([False] * 4 + [True]),
        )
        def write(self, sample: int, count: int, poked: bool, again: bool, closed: bool) -> None:
            """Grow a log; without pokes the writer dies right after its append, and a repeat of all it wrote changes nothing."""
            writer = self.writers[sample]
            if sample not in self.closed:
                new = [1000 * sample + len(self.tokens[sample]) + n for n in range(count)]
                self.tokens[sample] += new
                if poked:
                    self.run(writer.append(segment("response", new)))
                else:
                    self.run(self.queue.append(log_name(sample), entry(writer.length, new)))
                    writer.entries.append(entry(writer.length, new))
                    writer.length += count
            for each in writer.entries if again else ():
                self.run(self.queue.append(log_name(sample), each))
            if closed:
                self.close(sample)

        def close(self, sample: int) -> None:
            self.run(self.writers[sample].close(EOS))
            self.closed.add(sample)

        # -------------------------------------------------------- the learner

        @rule(sample=LOGS)
        def open(self, sample: int) -> None:
            if len(self.opened) < 5:
                task_id = f"task-{sample}-{len(self.opened)}"
                self.opened.append(task_id)
                self.journal[task_id] = []
                self.run(self.stream.open(log_task(task_id, sample)))

        @rule(number=NUMBERS)
        def cancel(self, number: int) -> None:
            if number < len(self.opened):
                task_id = self.opened[number]
                state = self.run(self.queue.cancel(FLOW, task_id))
                if state is TaskState.CANCELLED:
                    self.cancelled.add(task_id)
                self.run(self.stream.cancel(task_id))
                self.given_up.add(task_id)

        @rule(acknowledged=st.booleans(), limit=st.sampled_from([1, 256]))
        def take(self, acknowledged: bool, limit: int) -> None:
            taken = self.run(self.stream.take(limit=limit))
            for each in taken.deliveries:
                assert each.task_id not in self.given_up | self.finished
                assert each.start == len(self.journal[each.task_id])
                self.journal[each.task_id] += tokens_of(each.envelope)
                assert each.end == len(self.journal[each.task_id])
                if each.finished:
                    (self.given_up if each.envelope.HasField("error") else self.finished).add(each.task_id)
            if acknowledged:
                self.run(self.stream.acknowledge(taken))

        @rule()
        def poke_all(self) -> None:
            self.run(self.stream.poke_all())

        @rule()
        def restart_the_learner(self) -> None:
            """It knows what its journal knows, and reads from the start of the stream."""
            self.stream = ScoreStream(self.queue, FLOW)
            for task_id in self.opened:
                if task_id not in self.finished | self.given_up:
                    self.run(self.stream.resume(log_task(task_id, sample_of(task_id)), len(self.journal[task_id])))

        # -------------------------------------------------------- workers

        @rule(
            target=works, worker=WORKERS, most=st.sampled_from([1, 7, 1000]), limit=st.integers(1, 3), after_pokes=st.booleans()
        )
        def lease(self, worker: str, most: int, limit: int, after_pokes: bool) -> Any:
            """Ordinary tasks, or a suspect alone where there are none."""
            if after_pokes:
                self.poke_all()
            for alone in (False, True):
                leases = self.run(self.queue.lease(FLOW, worker, alone=alone, limit=limit))
                assert all(lease.alone == alone for lease in leases)
                assert not {lease.task_id for lease in leases} & self.cancelled
                if leases:
                    break
            self.holder |= {lease.task_id: lease.fence for lease in leases}
            return multiple(*(self.run(score(self.queue, lease, sample_of(lease.task_id), most=most)) for lease in leases))

        def claim(self, work: Work, call: Callable[[], Coroutine[Any, Any, object]]) -> bool:
            """Make a call under a lease: it goes through for the holder, for nobody else, and never after a cancel."""
            is_holder = self.holder.get(work.lease.task_id) == work.lease.fence
            try:
                self.run(call())
            except Fenced:
                assert not is_holder
                return False
            assert is_holder
            assert work.lease.task_id not in self.cancelled
            return True

        @rule(work=works)
        def commit(self, work: Work) -> None:
            """In time, late, again, or long after somebody else has taken over."""
            if self.claim(work, lambda: work.commit(self.queue)):
                del self.holder[work.lease.task_id]

        @rule(work=works)
        def commit_and_keep(self, work: Work) -> None:
            """Twice, because the first answer was lost; the rest of the lease goes on."""
            for _ in range(2):
                self.claim(work, lambda: self.queue.commit(work.lease, work.envelopes, work.lease.scored_upto, Then.KEEP))

        @rule(work=works, how=st.sampled_from(["heartbeat", "hand back", "ENGINE_FAILED", "UNSUPPORTED", "UNAVAILABLE"]))
        def let_go(self, work: Work, how: str) -> None:
            match how:
                case "heartbeat":
                    self.claim(work, lambda: self.queue.heartbeat(work.lease))
                    return
                case "hand back":
                    held = self.claim(work, lambda: self.queue.hand_back(work.lease))
                case _:
                    reason = error(common_pb2.ErrorCode.Value(how))
                    held = self.claim(work, lambda: self.queue.fail(work.lease, reason))
            if held:
                del self.holder[work.lease.task_id]

        @rule()
        def all_workers_die(self) -> None:
            self.jump(BOUNDS.lease_s)
            self.reclaim()

        def reclaim(self) -> None:
            self.run(self.queue.reclaim(TEACHER))

        # -------------------------------------------------------- the world

        @rule(seconds=st.sampled_from([1.0, BOUNDS.lease_s / 2, 10 * BOUNDS.lease_s, BOUNDS.blob_s, -600.0]))
        def jump(self, seconds: float) -> None:
            self.clock.advance(seconds)
            self.latest_s = max(self.latest_s, self.clock.now_s)

        @rule(what=st.sampled_from(["out", "ready", "leases", "flows", "task"]), number=NUMBERS)
        def lose_key(self, what: str, number: int) -> None:
            task_id = self.opened[number % len(self.opened)]
            keys = {"out": FLOW.out, "ready": FLOW.ready, "leases": leases_key(TEACHER), "flows": flows_key(TEACHER)}
            if what != "task":
                lose(self.queue, keys[what])
            elif task_id not in self.cancelled:  # a learner never asks for what it cancelled
                lose(self.queue, FLOW.task(task_id))

        @invariant()
        def rows_are_the_log_in_order(self) -> None:
            for task_id, got in getattr(self, "journal", {}).items():
                assert got == self.tokens[sample_of(task_id)][: len(got)]

        @invariant()
        def holders_are_those_of_leased_tasks(self) -> None:
            """Leases end by many hands; they begin in one rule only, which knows the fence."""
            for task_id in list(getattr(self, "holder", {})):
                info = self.run(self.queue.task_info(FLOW, task_id))
                if info is None or info.state is not TaskState.LEASED:
                    del self.holder[task_id]

        # -------------------------------------------------------- the end

        def calm_down(self) -> None:
            """Everybody does his duty from now on; then every task that was not given up must be whole."""
            self.clock.now_s = max(self.clock.now_s, self.latest_s)
            for sample in (0, 1):
                self.close(sample)
            for _ in range(8):
                self.clock.advance(BOUNDS.lease_s)
                self.reclaim()
                self.poke_all()
                for alone in (False, True):
                    while leases := self.run(self.queue.lease(FLOW, "w1", alone=alone)):
                        for lease in leases:
                            self.run(self.run(score(self.queue, lease, sample_of(lease.task_id))).commit(self.queue))
                self.take(acknowledged=True, limit=256)
            for task_id in set(self.opened) - self.given_up:
                assert self.journal[task_id] == self.tokens[sample_of(task_id)], task_id
                assert task_id in self.finished
            assert self.stream.open_tasks == {}

    return QueueMachine
