"""The rules of docs/scheduling.md over plain lists: slow, short, and what the real scheduler must equal, dispatch by dispatch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from preceptor_serving.scheduler import FlowKey, Task, Work


@dataclass
class Held:
    task: Task
    cost: float
    arrival: int
    weight: float = 0.0  # at dispatch


@dataclass
class PlainFairQueue:
    row_cost_tokens: float
    lower_band_share: float
    waiting: list[Held] = field(default_factory=list)
    running: dict[str, Held] = field(default_factory=dict)
    clock: dict[FlowKey, float] = field(default_factory=dict)
    entry: dict[FlowKey, float] = field(default_factory=dict)
    turn: dict[FlowKey, int] = field(default_factory=dict)
    weight: dict[FlowKey, float] = field(default_factory=dict)
    floor: dict[int, float] = field(default_factory=dict)
    owed: dict[int, float] = field(default_factory=dict)
    turns: int = 0
    arrivals: int = 0

    def cost(self, work: Work) -> float:
        return work.new_tokens + self.row_cost_tokens * work.rows

    def submit(self, task: Task) -> None:
        self.arrivals += 1
        self.put(Held(task, self.cost(task.work), self.arrivals))

    def put(self, held: Held) -> None:
        flow = held.task.flow
        self.waiting.append(held)
        self.weight[flow] = held.task.weight
        if flow not in self.entry:
            self.entry[flow] = self.floor.get(flow.band, 0.0)
            self.turn[flow] = self.next_turn()

    def next_turn(self) -> int:
        self.turns += 1
        return self.turns

    def forget_idle(self) -> None:
        busy = {held.task.flow for held in self.waiting}
        self.entry = {flow: at for flow, at in self.entry.items() if flow in busy}

    def drop(self, task_id: str) -> None:
        self.waiting = [held for held in self.waiting if held.task.task_id != task_id]
        self.forget_idle()

    def expire(self, now_s: float) -> None:
        self.waiting = [held for held in self.waiting if held.task.deadline_s > now_s]
        self.forget_idle()

    def start(self, flow: FlowKey) -> float:
        return max(self.clock.get(flow, 0.0), self.entry[flow])

    def head(self) -> Held | None:
        bands = sorted({held.task.flow.band for held in self.waiting})
        if not bands:
            return None
        band = next((b for b in bands[1:] if self.owed.get(b, 0.0) > 0), bands[0])
        flow = min((f for f in self.entry if f.band == band), key=lambda f: (self.start(f), self.turn[f]))
        return min((h for h in self.waiting if h.task.flow == flow), key=lambda h: (h.task.deadline_s, h.arrival))

    def next_batch(self, now_s: float, budget_tokens: int, max_tasks: int) -> list[str]:
        self.expire(now_s)
        picked: list[Held] = []
        while len(picked) < max_tasks and (held := self.head()) is not None:
            used = sum(h.task.work.batch_tokens for h in picked)
            alone = held.task.suspect or held.task.work.batch_tokens > budget_tokens
            if picked and (alone or used + held.task.work.batch_tokens > budget_tokens):
                break
            self.dispatch(held)
            picked.append(held)
            if alone:
                break
        return [held.task.task_id for held in picked]

    def dispatch(self, held: Held) -> None:
        flow, start = held.task.flow, self.start(held.task.flow)
        held.weight = self.weight[flow]
        self.floor[flow.band] = max(self.floor.get(flow.band, 0.0), start)
        self.clock[flow] = start + held.cost / held.weight
        self.turn[flow] = self.next_turn()
        bands = {h.task.flow.band for h in self.waiting}
        for band in bands:
            if band > flow.band:
                self.owed[band] = self.owed.get(band, 0.0) + self.lower_band_share * held.cost
        owed = self.owed.get(flow.band, 0.0)
        self.owed[flow.band] = owed - held.cost if min(bands) < flow.band else min(owed, 0.0)
        self.running[held.task.task_id] = held
        self.drop(held.task.task_id)

    def finish(self, task_id: str, spent: Work) -> None:
        held = self.running.pop(task_id)
        self.clock[held.task.flow] += (self.cost(spent) - held.cost) / held.weight

    def requeue(self, task_id: str, *, suspect: bool, cancelled: bool) -> None:
        held = self.running.pop(task_id)
        self.clock[held.task.flow] -= held.cost / held.weight
        if not cancelled:
            self.put(replace(held, task=replace(held.task, suspect=suspect or held.task.suspect)))
