"""make test-faults: kills at named points and other harm, each in a short run of real processes on loopback.

    python -m tests.faults                                   every point three times, every story, poison; about half an hour
    python -m tests.faults --seeds 1-5 --no-stories          a slice
    python -m tests.faults --points "worker: rows computed" --seeds 1-3
    python -m tests.faults --resume runs/faults.jsonl        goes on where the same command was stopped
    python -m tests.faults --resume runs/faults.jsonl --write    and puts the tables into docs/reliability.md

Ends with 1 when something was lost, done twice or came out different, or when a point was killed at less than three times
where all seeds were asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from preceptor.logs import configure_logs
from tests.faults import results
from tests.faults.judged import POINTS as JUDGE_POINTS
from tests.faults.judged import judge_killed
from tests.faults.kills import POINTS, ROUNDS, kill_run, point_of
from tests.faults.poison import poison
from tests.faults.results import Outcome
from tests.faults.stage import Ended, Script, perform
from tests.faults.stories import TALES, tell

ALL = ROUNDS * len(POINTS)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default=f"1-{ALL}", help="A-B: seeds take the points in turn")
    parser.add_argument("--points", nargs="*", default=list(POINTS), help="only these; a prefix is enough")
    parser.add_argument("--no-stories", action="store_true", help="kills only")
    parser.add_argument("--stories", default="", help="only stories with this text in their name")
    parser.add_argument("--resume", type=Path, help="a file of outcomes: what stands in it is not done again")
    parser.add_argument("--json", type=Path, help="write all outcomes here at the end")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reliability.md")
    return parser.parse_args(argv)


async def outcomes(asked: argparse.Namespace, done: Sequence[Outcome], folder: Path) -> AsyncIterator[Outcome]:
    """What is not done yet, one after the other."""
    known = {(one.kind, one.name, one.seed) for one in done if one.fine}
    points = tuple(point for point in POINTS if any(point.startswith(wanted) for wanted in asked.points))
    first, _, last = asked.seeds.partition("-")
    kills = [(point_of(seed, points), seed) for seed in range(int(first), int(last or first) + 1)]
    tales = [] if asked.no_stories else [tale for tale in TALES if asked.stories in tale.name]
    calm: Ended | None = None
    for point, seed in kills:
        if ("kill", point, seed) not in known:
            calm = calm or await perform(folder / "calm", Script())
            yield await kill_run(folder, point, seed, calm)
    for place, tale in enumerate(tales):
        if ("story", tale.name, 1) not in known:
            calm = calm or await perform(folder / "calm", Script())
            yield await tell(folder / f"story-{place}", tale, 1, calm)
    if not asked.no_stories and asked.stories in "poison" and ("story", "poison", 1) not in known:
        yield await poison(folder / "poison")
    for place, point in enumerate([] if asked.no_stories else JUDGE_POINTS):
        name = f"judge at the queue killed: {point}"
        if asked.stories in name and ("story", name, 1) not in known:
            yield await judge_killed(folder / f"judge-{place}", name, point)


def tables(done: Sequence[Outcome]) -> list[str]:
    kills = [one for one in done if one.kind == "kill" and one.hit]
    points, bad = len({one.name for one in kills}), sum(not one.fine for one in kills)
    told = f"{len(kills)} kills at {points} points; {bad} of the runs did not end as the undisturbed one."
    return [
        results.provenance("make test-faults"),
        "",
        told,
        "",
        *results.kill_table(done, POINTS),
        "",
        *results.story_table(done),
    ]


def thin_points(asked: argparse.Namespace, done: Sequence[Outcome]) -> list[str]:
    """Points that a whole run killed at too seldom; a slice is not asked."""
    if asked.seeds != f"1-{ALL}" or asked.points != list(POINTS):
        return []
    hits = Counter(name for name, _ in {(one.name, one.seed) for one in done if one.kind == "kill" and one.hit})
    return [point for point in POINTS if hits[point] < ROUNDS]


def main() -> int:
    asked = arguments()
    configure_logs("faults", log_format="json", level="error")
    done = asyncio.run(results.gather(partial(outcomes, asked), asked.resume, "faults"))
    print("\n".join(tables(done)))
    if asked.json:
        asked.json.write_text(json.dumps([asdict(one) for one in done], indent=1) + "\n")
    if asked.write:
        results.write_part("faults", tables(done))
    thin = thin_points(asked, done)
    for point in thin:
        print(f"FAILED {point}: killed at fewer than {ROUNDS} times")
    latest = {(one.kind, one.name, one.seed): one for one in done}
    return 1 if thin or not all(one.fine for one in latest.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
