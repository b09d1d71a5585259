"""make test-fuzz: generated input for every door, over loopback, and what may not be an answer.

    python -m tests.fuzz --cases 2000 --seed 1               cases of each door; a case of rest is 25 requests to one operation
    python -m tests.fuzz --doors grpc queue --cases 500
    python -m tests.fuzz --doors grpc --only 1234             one case again
    python -m tests.fuzz --resume runs/fuzz.jsonl             goes on where the same command was stopped
    python -m tests.fuzz --resume runs/fuzz.jsonl --write     and puts the table into docs/reliability.md

An answer that may not be: INTERNAL, UNKNOWN, a 5xx, an engine or a service that died, no answer, or a refusal that names no
field. Ends with 1 when there was one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from preceptor.logs import configure_logs
from preceptor.queue.redis import RedisQueue
from tests.faults.results import provenance, write_part
from tests.fuzz.codec_cases import CodecFuzz
from tests.fuzz.doors import Doors, open_doors
from tests.fuzz.grpc_cases import GrpcFuzz
from tests.fuzz.queue_cases import QueueFuzz
from tests.fuzz.rest_cases import RestFuzz
from tests.fuzz.verdicts import Finding

DOORS = ("codec", "grpc", "queue", "rest")
SAVE_EVERY = 20
REST_SHARE = 10  # a case of rest is many requests
SHOWN = 40


class Fuzz(Protocol):
    """The generator of one door."""

    names: list[str]

    async def case(self, number: int) -> tuple[str, list[Finding]]: ...

    async def close(self) -> None: ...


@dataclass
class Progress:
    """What was asked so far, by door; kept in a file of one JSON object for each door and block of cases."""

    path: Path | None
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def load(self) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path and self.path.exists() else []
        for block in (json.loads(line) for line in lines if line.endswith("\n")):
            if block["seed"] == self.seed:
                self.add(block["door"], block["asked"], [Finding(**one) for one in block["findings"]])

    def add(self, door: str, asked: dict[str, int], findings: Sequence[Finding]) -> None:
        self.done[door] += sum(asked.values())
        self.asked.update({(door, name): count for name, count in asked.items()})
        self.findings += findings

    def save(self, door: str, asked: dict[str, int], findings: Sequence[Finding]) -> None:
        self.add(door, asked, findings)
        if self.path is not None:
            block = {"seed": self.seed, "door": door, "asked": asked, "findings": [one.told() for one in findings]}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(block) + "\n")

    def table(self) -> list[str]:
        wrong = Counter((one.door, one.what) for one in self.findings)
        rows = ["| door | what | cases | answers that may not be |", "|---|---|---|---|"]
        return rows + [
            f"| {door} | {what} | {count} | {wrong[door, what]} |" for (door, what), count in sorted(self.asked.items())
        ]


async def fuzz_door(door: str, fuzz: Fuzz, cases: int, progress: Progress, doors: Doors) -> None:
    """Cases from where the progress stands, saved in blocks; a service that died ends the door."""
    asked, found = Counter[str](), list[Finding]()
    for number in range(progress.done[door], cases):
        name, findings = await fuzz.case(number)
        asked[name] += 1
        found += findings
        if dead := doors.dead():
            found.append(Finding(door, name, number, f"CRASH: {', '.join(dead)} died", f"seed {progress.seed}/{number}"))
        if len(asked) and (sum(asked.values()) >= SAVE_EVERY or number + 1 == cases or dead):
            progress.save(door, dict(asked), found)
            asked, found = Counter[str](), list[Finding]()
        if dead:
            return


async def made(door: str, doors: Doors, seed: int) -> Fuzz:
    if door == "codec":
        return CodecFuzz(seed)
    if door == "grpc":
        return GrpcFuzz(doors, seed)
    if door == "rest":
        return await asyncio.to_thread(RestFuzz, doors, seed)
    return QueueFuzz(doors, await RedisQueue.connect(doors.queue.url, password=doors.queue.password), seed)


async def run(asked: argparse.Namespace) -> Progress:
    progress = Progress(asked.resume, asked.seed)
    progress.load()
    with tempfile.TemporaryDirectory(prefix="preceptor-fuzz-") as folder:
        async with open_doors(Path(folder)) as doors:
            for door in asked.doors:
                began = time.monotonic()
                fuzz = await made(door, doors, asked.seed)
                if asked.only is not None:
                    _, findings = await fuzz.case(asked.only)
                    progress.findings += findings
                else:
                    cases = asked.cases if door != "rest" else max(1, asked.cases // REST_SHARE)
                    await fuzz_door(door, fuzz, cases, progress, doors)
                await fuzz.close()
                print(f"{door}: {progress.done[door]} cases, {time.monotonic() - began:.0f} s", flush=True)
            if asked.keep_logs:
                for name, child in doors.children.items():
                    (asked.keep_logs / f"{name}.log").write_bytes(child.spec.log.read_bytes())
    return progress


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000, help="of each door")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--doors", nargs="*", default=list(DOORS), choices=DOORS)
    parser.add_argument("--only", type=int, help="one case, by its number")
    parser.add_argument("--resume", type=Path, help="a file of blocks that are done: they are not asked again")
    parser.add_argument("--keep-logs", type=Path, help="copy the services' logs into this folder")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reliability.md")
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    configure_logs("fuzz", log_format="json", level="critical")
    progress = asyncio.run(run(asked))
    for one in progress.findings[:SHOWN]:
        print(f"FAILED {one.door} {one.what} case {one.case}: {one.complaint}\n    {one.request[:400]}")
    command = f"python -m tests.fuzz --cases {asked.cases} --seed {asked.seed}"
    table = [provenance(command), "", *progress.table()]
    print("\n".join(table))
    if asked.write:
        write_part("fuzz", table)
    return 1 if progress.findings else 0


if __name__ == "__main__":
    sys.exit(main())
