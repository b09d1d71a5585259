"""What the runs came to: one line of JSON each, so that a stopped command goes on where it was, and a table at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


@dataclass(frozen=True)
class Outcome:
    """Of one run. `hit` is 0 where the point was not reached; `problem` is empty where everything held."""

    kind: str  # kill | story
    name: str
    seed: int
    hit: int
    lost_steps: int
    repeated_steps: int
    equal: bool
    seconds: float
    problem: str = ""
    detail: str = ""

    @property
    def fine(self) -> bool:
        return not self.problem and self.equal and not self.lost_steps and not self.repeated_steps


def read(path: Path) -> list[Outcome]:
    """The outcomes so far; none without a file. Half a last line, of a command that was killed, is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [Outcome(**json.loads(line)) for line in lines if line.endswith("\n")]


def append(path: Path, outcome: Outcome) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


async def gather(
    outcomes: Callable[[Sequence[Outcome], Path], AsyncIterator[Outcome]], resume: Path | None, name: str
) -> list[Outcome]:
    """Those of earlier calls and those that `outcomes` finds, each told and kept as it comes. Logs stay where one failed."""
    done = read(resume) if resume else []
    folder = Path(tempfile.mkdtemp(prefix=f"preceptor-{name}-"))
    failed = False
    async for outcome in outcomes(list(done), folder):
        done.append(outcome)
        failed = failed or not outcome.fine
        if resume:
            append(resume, outcome)
        verdict = "ok" if outcome.fine else f"FAILED {outcome.problem}"
        hit = f", hit {outcome.hit}" if outcome.kind == "kill" else ""
        print(
            f"{outcome.seconds:6.1f} s  {outcome.kind} {outcome.seed}  {outcome.name}{hit}  {outcome.detail}  {verdict}",
            flush=True,
        )
    if failed:
        print(f"logs of all processes: {folder}")
    else:
        shutil.rmtree(folder)
    return done


def kill_table(outcomes: Sequence[Outcome], points: Iterable[str]) -> list[str]:
    """One row for each point that somebody was killed at."""
    rows = ["| killed at | kills | steps lost | steps applied twice | final weights bit-equal |", "|---|---|---|---|---|"]
    for point in points:
        runs = [one for one in outcomes if one.kind == "kill" and one.name == point and one.hit]
        if not runs:
            continue
        lost, twice = sum(one.lost_steps for one in runs), sum(one.repeated_steps for one in runs)
        rows.append(f"| {point} | {len(runs)} | {lost} | {twice} | {sum(one.fine for one in runs)} of {len(runs)} |")
    return rows


def story_table(outcomes: Sequence[Outcome]) -> list[str]:
    """One row for each story; the last run counts."""
    latest = {one.name: one for one in outcomes if one.kind == "story"}
    rows = ["| what was done | result | seconds |", "|---|---|---|"]
    return rows + [f"| {one.name} | {one.problem or one.detail} | {one.seconds:.0f} |" for one in latest.values()]


def page_with(name: str, lines: Sequence[str], page: str) -> str:
    """The page with what stands between the two marks of that name replaced."""
    begin, end = f"<!-- {name}: written by its command -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    if not found:
        raise ValueError(f"docs/reliability.md has no part called {name}")
    return f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{rest.partition(end)[2]}"


def write_part(name: str, lines: Sequence[str]) -> None:
    PAGE.write_text(page_with(name, lines, PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def provenance(command: str) -> str:
    """When, of what, and how to do it again."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=PAGE.parent)
    return f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, `{command}`"
