"""Seeded requests of several jobs: who asks for how much, when, and how far estimates are off."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from preceptor_serving.scheduler import CostRule, FlowKey, Task, Work

RULE = CostRule(row_cost_tokens=0.25)
LEAST_TOKENS, MOST_TOKENS = 64, 1_024  # log-uniform
CACHE_HITS = 0.1  # share of tasks that find half of their prefix cached, which the estimate did not know
QUANTUM_COST = RULE.cost(Work(MOST_TOKENS, MOST_TOKENS // 2))


@dataclass(frozen=True, slots=True)
class Job:
    """One training job: its weight, and its demand as a multiple of its share of the whole pool."""

    name: str
    weight: float
    demand: float
    paced: bool = False  # each request follows the last by its cost over the demand; otherwise Poisson

    @property
    def flow(self) -> FlowKey:
        return FlowKey("teacher", "tenant", self.name, 1)


@dataclass(frozen=True, slots=True)
class Request:
    """A task, when it arrives, and what it will turn out to need."""

    task: Task
    truth: Work
    at_s: float

    @property
    def job(self) -> str:
        return self.task.flow.job


def eight_jobs(weights: Sequence[float]) -> list[Job]:
    """One floods at 50 times its share, five ask for a quarter more than theirs, and two victims for half of theirs.

    The steady victim never asks faster than half its share, the bursty one only on average.
    """
    flood, steady, bursty, *rest = weights
    victims = [Job("steady", steady, 0.5, paced=True), Job("bursty", bursty, 0.5)]
    return [Job("flood", flood, 50.0), *victims, *(Job(f"job{i}", weight, 1.25) for i, weight in enumerate(rest))]


def shares(jobs: Sequence[Job], pool_cost_per_s: float) -> dict[str, float]:
    """Each job's part of the pool by weight, whatever the others ask."""
    total = sum(job.weight for job in jobs)
    return {job.name: pool_cost_per_s * job.weight / total for job in jobs}


def open_loop(jobs: Sequence[Job], pool_cost_per_s: float, count: int, seed: int) -> list[Request]:
    """About ``count`` arrivals over all jobs, in order of time, whatever becomes of them."""
    share_of = shares(jobs, pool_cost_per_s)
    asked = {job.name: job.demand * share_of[job.name] for job in jobs}
    horizon_s = count * mean_cost() / sum(asked.values())
    requests = [request for job in jobs for request in _arrivals(job, asked[job.name], horizon_s, seed)]
    return sorted(requests, key=lambda request: request.at_s)


def burst(jobs: Sequence[Job], count: int, seed: int) -> list[Request]:
    """``count`` requests that are all there at time zero, dealt to the jobs in turn."""
    rng = random.Random(f"burst {seed}")
    return [_request(jobs[i % len(jobs)], i, 0.0, rng) for i in range(count)]


def relabelled(requests: Sequence[Request], job: Job) -> list[Request]:
    """The same work as one job's."""
    return [replace(request, task=replace(request.task, flow=job.flow, weight=job.weight)) for request in requests]


def mean_cost() -> float:
    """The expected true cost of a request."""
    mean_tokens = (MOST_TOKENS - LEAST_TOKENS) / math.log(MOST_TOKENS / LEAST_TOKENS)
    return mean_tokens * (1 - CACHE_HITS / 2 + RULE.row_cost_tokens / 2)


def _arrivals(job: Job, cost_per_s: float, horizon_s: float, seed: int) -> list[Request]:
    rng = random.Random(f"{job.name} {seed}")
    requests: list[Request] = []
    at_s = rng.expovariate(cost_per_s / mean_cost())
    while at_s < horizon_s:
        request = _request(job, len(requests), at_s, rng)
        requests.append(request)
        gap_cost = RULE.cost(request.task.work) if job.paced else rng.expovariate(1 / mean_cost())
        at_s += gap_cost / cost_per_s
    return requests


def _request(job: Job, number: int, at_s: float, rng: random.Random) -> Request:
    tokens = round(LEAST_TOKENS * (MOST_TOKENS / LEAST_TOKENS) ** rng.random())
    guess = Work(tokens, tokens // 2)
    truth = replace(guess, new_tokens=tokens // 2) if rng.random() < CACHE_HITS else guess
    return Request(Task(f"{job.name}-{number}", job.flow, guess, job.weight), truth, at_s)
