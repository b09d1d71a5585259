"""One contended case: eight jobs on one pool, judged by what each got and by what its flood cost the victims."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.sharing.measures import jain, max_min_shares, quantile
from benchmarks.sharing.queues import OneScheduler, Queue, SharedClocks, fifo
from benchmarks.sharing.teacher import COST_PER_S, FULL_BATCH_S, Run, Teacher, pool_cost_per_s
from benchmarks.sharing.traffic import QUANTUM_COST, RULE, Job, Request, eight_jobs, open_loop, shares

SETTLED_SHARE = 0.9  # requests of the last tenth may still be waiting when the run is cut
QUANTILES = {"p50": 0.5, "p95": 0.95, "max": 1.0}
WEIGHTS = {"equal": [1.0] * 8, "1:2:4": [4.0, 1.0, 2.0, 1.0, 2.0, 4.0, 1.0, 2.0]}
SETUPS: dict[str, tuple[int, Callable[[int], Queue]]] = {
    "1 worker": (1, OneScheduler),
    "3 workers, one scheduler": (3, OneScheduler),
    "3 workers, shared clocks": (3, SharedClocks),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The figures of one case for one queue."""

    name: str
    jain: float
    steady_over_bound: float  # largest delay / (alone on the teacher + allowance)
    bursty_over_bound: float  # largest delay / (alone on a teacher as large as its share + allowance)
    requests: int
    allowance_s: float
    busy: float  # share of the workers' time
    cpu_us_per_request: float  # of the queue and the simulation around it
    seconds: dict[str, dict[str, float]]


def contended(weights: str, setup: str, count: int, seed: int, *, first_come: bool = False) -> Outcome:
    """Runs one case on our scheduler, or on FIFO."""
    workers, make = SETUPS[setup]
    jobs = eight_jobs(WEIGHTS[weights])
    pool = pool_cost_per_s(workers)
    requests = open_loop(jobs, pool, count, seed)
    horizon_s = requests[-1].at_s
    began_s = time.process_time()
    run = Teacher(fifo(workers) if first_come else make(workers), workers).serve(requests, horizon_s)
    spent_s = time.process_time() - began_s
    judged = [request for request in requests if request.at_s < SETTLED_SHARE * horizon_s]
    allowance_s = workers * FULL_BATCH_S + len(jobs) * QUANTUM_COST / COST_PER_S
    steady = [request for request in judged if request.job == "steady"]
    bursty = [request for request in judged if request.job == "bursty"]
    alone = {job: _alone(job, requests, make, workers) for job in ("steady", "bursty")}
    fluid = _fluid_delays(bursty, shares(jobs, pool)["bursty"])
    return Outcome(
        name=f"{'FIFO: ' if first_come else ''}{weights}, {setup}",
        jain=_fairness(run, jobs, requests),
        steady_over_bound=max(run.delay_s(r) / (alone["steady"].delay_s(r) + allowance_s) for r in steady),
        bursty_over_bound=max(run.delay_s(r) / (own_s + allowance_s) for r, own_s in zip(bursty, fluid, strict=True)),
        requests=len(requests),
        allowance_s=round(allowance_s, 4),
        busy=round(run.busy_s / (workers * horizon_s), 4),
        cpu_us_per_request=round(1e6 * spent_s / len(requests), 1),
        seconds={
            "steady": _spread([run.delay_s(r) for r in steady]),
            "steady, until dispatch": _spread([run.dispatched_s.get(r.task.task_id, run.end_s) - r.at_s for r in steady]),
            "steady, alone on the teacher": _spread([alone["steady"].delay_s(r) for r in steady]),
            "bursty": _spread([run.delay_s(r) for r in bursty]),
            "bursty, alone on the teacher": _spread([alone["bursty"].delay_s(r) for r in bursty]),
            "bursty, alone on its share": _spread(fluid),
        },
    )


def _fairness(run: Run, jobs: Sequence[Job], requests: Sequence[Request]) -> float:
    """Jain over served / min(demand, fair share); the fair share is weighted max-min of what was served in all."""
    demand = dict.fromkeys((job.name for job in jobs), 0.0)
    for request in requests:
        demand[request.job] += RULE.cost(request.truth)
    fair = max_min_shares(demand, {job.name: job.weight for job in jobs}, sum(run.served.values()))
    return jain(run.served.get(job.name, 0.0) / fair[job.name] for job in jobs)


def _alone(job: str, requests: Sequence[Request], make: Callable[[int], Queue], workers: int) -> Run:
    return Teacher(make(workers), workers).serve([request for request in requests if request.job == job])


def _fluid_delays(requests: Sequence[Request], cost_per_s: float) -> list[float]:
    """Delays on a teacher of its own that is exactly as large as the share: no batches, no overhead, nobody else."""
    delays: list[float] = []
    free_s = 0.0
    for request in requests:
        free_s = max(free_s, request.at_s) + RULE.cost(request.truth) / cost_per_s
        delays.append(free_s - request.at_s)
    return delays


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {name: round(quantile(values, share), 3) for name, share in QUANTILES.items()}
