"""`python -m benchmarks.sim_sharing`: how the real scheduler shares one teacher, in virtual time (P6).

Eight jobs, 10^5 seeded requests a case, one job flooding at 50 times its share; equal and 1:2:4 weights; one and three workers,
the latter around one scheduler and as three schedulers over shared clocks. FIFO serves the same requests. A delay runs from
arrival to result. Allowed is what the victim would see by itself, plus one full batch per worker, plus the largest task per job.
The steady victim never asks faster than half its share and is held to the whole teacher for itself. The bursty victim (Poisson)
is held to a teacher as large as its share: no fair order can serve a burst at the speed of a teacher that it does not have.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from benchmarks.results import Result, write_results
from benchmarks.sharing.cases import SETUPS, WEIGHTS, Outcome, contended
from benchmarks.sharing.queues import OneScheduler, Queue, SharedClocks, shortest_first
from benchmarks.sharing.teacher import Teacher
from benchmarks.sharing.traffic import RULE, Job, burst, eight_jobs, relabelled

SEED = 20_260
REQUESTS = 100_000
BURST_REQUESTS = 2_000
STEADY = "steady victim: delay / (alone on the teacher + allowance), max"
BURSTY = "bursty victim: delay / (alone on its share + allowance), max"
BIG_JOB = Job("big", 1.0, 1.0)


def worst_of(figure: str, cases: Sequence[Outcome], fifo: Sequence[Outcome], row: Result) -> Result:
    """The row with the value of the worst case; all cases and FIFO's stand beside it."""
    values = {case.name: float(getattr(case, figure)) for case in (*cases, *fifo)}
    worst = min if row.better == "higher" else max
    detail = {
        "cases": {name: round(value, 4) for name, value in values.items()},
        "requests_per_case": cases[0].requests,
        "seed": SEED,
    }
    return replace(row, value=worst(values[case.name] for case in cases), detail={**detail, **row.detail})


def throughput(count: int) -> Result:
    """Work conservation: the same backlog as eight jobs and as one, until the last task is done."""
    requests = burst(eight_jobs(WEIGHTS["1:2:4"]), count, SEED)
    makes: dict[str, Callable[[int], Queue]] = {"one scheduler": OneScheduler, "shared clocks": SharedClocks}
    ratios: dict[str, float] = {}
    for workers, (name, make) in ((1, ("one scheduler", OneScheduler)), *((3, pair) for pair in makes.items())):
        eight = Teacher(make(workers), workers).serve(requests).end_s
        one = Teacher(make(workers), workers).serve(relabelled(requests, BIG_JOB)).end_s
        ratios[f"{workers} x {name}"] = one / eight
    detail = {"cases": {name: round(ratio, 5) for name, ratio in ratios.items()}, "requests_per_case": count, "seed": SEED}
    return Result(
        "P6.throughput.virtual", "throughput of 8 jobs over one big job, worst case", min(ratios.values()), 0.95, "higher", detail
    )


def where_we_lose(count: int) -> str:
    """Mean latency of a single tenant's burst against shortest-job-first."""
    requests = relabelled(burst([BIG_JOB], count, SEED), BIG_JOB)
    largest = max(requests, key=lambda request: RULE.cost(request.truth))
    ours, sjf = (Teacher(queue, 1).serve(requests) for queue in (OneScheduler(1), shortest_first(1)))
    mean_ours, mean_sjf = (fmean(run.delay_s(request) for request in requests) for run in (ours, sjf))
    return (
        f"where we lose: mean latency of one tenant's burst of {count} is {mean_ours:.1f} s, shortest-job-first has "
        f"{mean_sjf:.1f} s ({mean_ours / mean_sjf:.2f}x less); the largest task ends after {ours.delay_s(largest):.1f} s, "
        f"there after {sjf.delay_s(largest):.1f} s"
    )


def note(case: Outcome) -> str:
    """What the ratios hide, in seconds of virtual time."""
    steady, bursty, alone = (case.seconds[name].values() for name in ("steady", "bursty", "bursty, alone on the teacher"))
    spreads = [" / ".join(f"{value:.2f}" for value in values) for values in (steady, bursty, alone)]
    return (
        f"{case.name}: busy {case.busy:.1%}; delay p50 / p95 / max: steady victim {spreads[0]} s, bursty victim {spreads[1]} s "
        f"(with the whole teacher to itself {spreads[2]} s); allowance {case.allowance_s:.2f} s"
    )


def measure(count: int, burst_count: int) -> tuple[list[Result], list[str]]:
    """All figures, and the lines under the table."""
    ours = [contended(weights, setup, count, SEED) for weights in WEIGHTS for setup in SETUPS]
    fifo = [contended(weights, setup, count, SEED, first_come=True) for weights in WEIGHTS for setup in list(SETUPS)[:2]]
    spreads = {case.name: case.seconds | {"allowance": {"s": case.allowance_s}} for case in ours}
    cpu = {"cpu_us_per_request": {case.name: case.cpu_us_per_request for case in ours}}
    rows = [
        worst_of("jain", ours, fifo, Result("P6.jain", "Jain over served / min(demand, fair share)", 0, 0.98, "higher", cpu)),
        worst_of("steady_over_bound", ours, fifo, Result("P6.virtual", STEADY, 0, 1.0, "lower", {"delay_s": spreads})),
        worst_of("bursty_over_bound", ours, fifo, Result("P6.virtual.bursty", BURSTY, 0, 1.0, "lower")),
        throughput(count // 5),
    ]
    return rows, [*map(note, (*ours, *fifo)), where_we_lose(burst_count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="requests per case (default: %(default)s)")
    rows, lines = measure(parser.parse_args().requests, BURST_REQUESTS)
    write_results("sharing_sim", rows, lines)


if __name__ == "__main__":
    main()
