"""`preceptor demo`: the bundled pair through real services, with controls, a table and a report."""

from __future__ import annotations

import asyncio
import math
import os
import platform
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

import typer

from preceptor.cli.learn_progress import watching
from preceptor.cli.output import print_table, say
from preceptor.demo.black_box import STEPS as BLACK_BOX_STEPS
from preceptor.demo.black_box import black_box_report, black_box_stack, run_black_box
from preceptor.demo.engines import Engine
from preceptor.demo.pair import DEFAULT_PAIR, Pair
from preceptor.demo.shared import SHARING_HEADER, SharedJob, criteria_of, run_shared, shared_stack, sharing_rows
from preceptor.demo.shared import STEPS as SHARED_STEPS
from preceptor.demo.white_box import STEPS, DemoResult, demo_stack, run_demo
from preceptor.errors import InvalidArgument
from preceptor.extras import require_extra
from preceptor.learner.waits import beside
from preceptor.local.stack import Stack
from preceptor.local.supervisor import Event, Supervisor
from preceptor.report import DemoReport, render_demo

NOTES = (
    "Permuted scores are real teacher rows dealt to other places of the same batch: whatever a run learns from them, it does "
    "not learn from the teacher. They do not merely fail to teach, they destroy the student: mind the gain over the start.",
    "Fine-tuning on the teacher's own text does as well or better on this task, because it has one right answer, which the "
    "teacher writes almost every time. The demo shows that scores teach, not that on-policy beats off-policy.",
)

SHARED_NOTES = (
    "All three jobs use one teacher service through one queue. They run in deterministic mode: whatever order their work arrives "
    "in, each ends with the same bits as when it had the teacher to itself.",
    "The runs are short: they show that sharing changes nothing, not how far each recipe gets.",
)

CHANCE_NOTES = (
    "All three jobs use one teacher service through one queue. vLLM has no deterministic mode: how sums are rounded depends on "
    "what arrives together. Accuracies are held against each other within chance.",
    SHARED_NOTES[1],
)

T = TypeVar("T")

Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where runs, logs and the report go.")]
PairFolder = Annotated[Path, typer.Option("--pair", metavar="DIR", help="The bundled teacher and student.")]


def demo(
    folder: Folder = Path("runs/demo"),
    pair: PairFolder = DEFAULT_PAIR,
    steps: Annotated[int | None, typer.Option("--steps", min=1, max=10_000, help="Steps of each run.")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="Three jobs share the teacher; each must equal its solo run.")] = False,
    black_box: Annotated[bool, typer.Option("--black-box", help="The teacher is behind an API: verdicts, no logits.")] = False,
    engine: Annotated[
        str, typer.Option("--engine", metavar="hf|vllm", help="What scores and generates; training is transformers'.")
    ] = "hf",
) -> None:
    """Distil the bundled student from the bundled teacher, with controls. Exits 1 if what it claims does not hold."""
    require_extra("local")
    mode = MODES[_mode(shared, black_box)]
    chosen = _engine(engine)
    bundled = Pair.at(pair)
    home = _fresh((folder / mode.home).resolve())
    began = time.monotonic()
    report = mode.run(bundled, home, steps or mode.steps, chosen)
    took_s = time.monotonic() - began
    page = folder.resolve() / mode.page
    page.write_text(render_demo(replace(report, machine=f"{report.machine}; {took_s:.0f} s in all")), encoding="utf-8")
    _show(report)
    say(f"report: {page}   {took_s:.0f} s")
    if not all(one.ok for one in report.criteria):
        raise typer.Exit(1)


def _mode(shared: bool, black_box: bool) -> str:
    if shared and black_box:
        raise InvalidArgument(
            "one demo at a time", field="--black-box", value="with --shared", limit="one of --shared, --black-box"
        )
    return "shared" if shared else "black-box" if black_box else "white-box"


def _engine(name: str) -> Engine:
    if name not in get_args(Engine):
        raise InvalidArgument("there is no such engine", field="--engine", value=name, limit=" or ".join(get_args(Engine)))
    return cast(Engine, name)


def _white_box(pair: Pair, home: Path, steps: int, engine: Engine) -> DemoReport:
    stack = demo_stack(pair, home / "logs", home, engine)
    with watching() as watch:
        result = asyncio.run(_beside(stack, run_demo(stack, pair, home, watch, steps, prefix="")))
    return report_of(result, command=_command("", engine))


def _shared(pair: Pair, home: Path, steps: int, engine: Engine) -> DemoReport:
    stack, exact = shared_stack(pair, home / "logs", home, engine), engine == "hf"
    jobs = asyncio.run(_beside(stack, run_shared(stack, pair, home, steps, exact=exact)))
    return shared_report(jobs, exact=exact, command=_command("shared", engine))


def _black_box(pair: Pair, home: Path, steps: int, engine: Engine) -> DemoReport:
    box = black_box_stack(pair, home / "logs", home, engine)
    with watching() as watch:
        result = asyncio.run(_beside(box.stack, run_black_box(box, pair, home, watch, steps)))
    return black_box_report(result, command=_command("black-box", engine), when=_now(), machine=_machine())


@dataclass(frozen=True, slots=True)
class Mode:
    """One demo: where it works, which page it writes, how many steps it takes unless told otherwise."""

    home: str
    page: str
    steps: int
    run: Callable[[Pair, Path, int, Engine], DemoReport]


MODES = {
    "white-box": Mode("white-box", "report.html", STEPS, _white_box),
    "shared": Mode("shared", "shared.html", SHARED_STEPS, _shared),
    "black-box": Mode("black-box", "black-box.html", BLACK_BOX_STEPS, _black_box),
}
"""Name -> demo. A further one is a module in `preceptor/demo/` and a line here."""


async def _beside(stack: Stack, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work while the stack is up, or one line when a process cannot be kept alive."""
    say(f"starting Valkey and {len(stack.doors)} services; logs: {stack.stages[0][0].log.parent}")
    async with Supervisor(stack.stages, on_event=_only_trouble) as supervisor:
        return await beside(supervisor.watch(), work)


def _fresh(folder: Path) -> Path:
    """An empty folder of our own: what an earlier demo left there is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def _only_trouble(event: Event) -> None:
    if event.kind in ("died", "restarting"):
        say(f"{event.name}: {event.kind}, {event.detail}")


def _show(report: DemoReport) -> None:
    changes = [(run.label, f"{run.start:.1%}", f"{run.end:.1%}", f"{100 * (run.end - run.start):+.1f}") for run in report.runs]
    reference = [] if math.isnan(report.teacher_accuracy) else [("teacher", f"{report.teacher_accuracy:.1%}", "", "")]
    print_table(("run", "before", "after", "points"), [*changes, *reference])
    if report.samples:
        say("")
        samples = [
            (one.prompt, _marked(one.before, one.before_right), _marked(one.after, one.after_right)) for one in report.samples
        ]
        print_table(("prompt", "student before", "student after"), samples)
    for header, rows in ((report.sharing_header, report.sharing), (report.costs_header, report.costs)):
        if rows:
            say("")
            print_table(header, rows)
    say("")
    for one in report.criteria:
        say(f"{'ok  ' if one.ok else 'FAIL'} {one.claim}: {one.value} (bar {one.bar})")


def _marked(text: str, right: bool) -> str:
    return f"{text}  {'right' if right else 'wrong'}"


def _command(mode: str, engine: Engine) -> str:
    """What a reader of the report would type."""
    if engine == "hf":
        return f"make demo-{mode}" if mode else "make demo"
    return f"preceptor demo --engine {engine}" + (f" --{mode}" if mode else "")


def report_of(result: DemoResult, *, command: str) -> DemoReport:
    """The page of the white-box demo."""
    receipt = result.look.receipt
    return DemoReport(
        title="One teacher, one student, and two controls",
        command=command,
        when=_now(),
        machine=_machine(),
        teacher_accuracy=result.teacher.accuracy,
        runs=[result.distilled, *result.controls],
        criteria=result.criteria,
        samples=result.samples,
        rollout=result.look.tokens,
        rollout_prompt=result.look.prompt,
        receipt={
            "model": f"{receipt.model.name} {receipt.model.manifest_sha256.hex()[:16]}",
            "tokenizer": receipt.tokenizer_sha256.hex()[:16],
            "engine": f"{receipt.engine} {receipt.engine_version}, {receipt.dtype}, numerics {receipt.numerics_version}",
            "tokens computed / reused": f"{receipt.tokens_computed} / {receipt.tokens_reused}",
        },
        notes=NOTES,
    )


def shared_report(jobs: Sequence[SharedJob], *, exact: bool, command: str) -> DemoReport:
    """The page of the shared demo."""
    return DemoReport(
        title="Three jobs, one teacher",
        command=command,
        when=_now(),
        machine=_machine(),
        teacher_accuracy=math.nan,
        runs=[job.curves for job in jobs],
        criteria=criteria_of(jobs, exact=exact),
        sharing=sharing_rows(jobs),
        sharing_header=SHARING_HEADER,
        notes=SHARED_NOTES if exact else CHANCE_NOTES,
    )


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, CPU"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
