"""The report of one run, finished or not: its curves, who scored it, what it cost, where its time went, what went wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any, cast

from preceptor.errors import NotFound
from preceptor.learner.run_folder import RunFolder
from preceptor.report.chart import Point, Series, line_chart
from preceptor.report.page import page, section, side_by_side, table

FILE = "report.html"
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """A chart: series by the path of a figure in a `step` event."""

    title: str
    unit: str
    series: Sequence[tuple[str, str]]  # name, path
    note: str = ""
    percent: bool = False


CURVES = (
    Curve("Loss", "loss", (("loss", "loss"),)),
    Curve("Reverse KL", "nats per token", (("reverse KL", "reverse_kl"),), "On the rollouts of the step itself."),
    Curve("Overlap", "share", (("overlap", "metrics/topk_overlap"),), "Of the teacher's top tokens.", True),
    Curve(
        "Overlap advantage", "p (log q - log p)", (("mean", "metrics/overlap_advantage"),),
        "Over the teacher's top tokens that are among the student's; zero where both agree.",
    ),
    Curve(
        "Entropy", "nats per token", (("student", "metrics/student_entropy"), ("gap", "metrics/entropy_gap")),
        "The gap is the student's entropy less the teacher's, over the same buckets.",
    ),
    Curve(
        "Tail mass", "probability", (("student", "metrics/student_tail_mass"), ("teacher", "metrics/teacher_tail_mass")),
        "Outside the listed tokens.",
    ),
    Curve("Response length", "tokens", (("mean", "metrics/mean_response_tokens"),)),
    Curve(
        "Truncation and repetition", "share", (("truncated", "metrics/truncation_rate"), ("repeated", "repetition")),
        "Rollouts that hit the limit; 4-grams that a response had before.", True,
    ),
    Curve("Gradient norm", "norm", (("before clipping", "grad_norm"),)),
    Curve("Verdicts", "mean reward", (("reward", "grading/mean_reward"), ("of the environment", "environment_reward"))),
    Curve("Age of rollouts", "versions", (("mean", "ages/mean"), ("largest", "ages/max"))),
)  # fmt: skip
"""The charts of a run, in order; one without a figure is left out. A further one is a line here."""

OF_EACH_TERM = (
    ("Loss of each term", "loss", "loss", False, "With the term's weight; they add up to the loss."),
    ("Gradient share of each term", "share", "gradient_share", True, "Norms with respect to the logits, over their sum."),
)
"""Charts with one line a term: title, unit, figure, whether it is a share, note."""

TONES = ("run", "control", "second", "reference", "third", "fourth")


def report_of(folder: RunFolder) -> str:
    """The page, from what lies in the run's folder."""
    if not folder.recipe.exists():
        raise NotFound(f"there is no run in {folder.path}", field="run", value=folder.path.name, hint="name a run, or its --runs")
    events = folder.told()
    steps = [event for event in events if event["event"] == "step"]
    charts = [drawn for drawn in (_accuracy(events), *(_chart(curve, steps) for curve in CURVES)) if drawn]
    charts += _of_each_term(steps)
    parts = [
        _summary(folder, events, steps),
        _alarms(events),
        side_by_side(*charts),
        _time(steps),
        _spending(steps),
        _receipts(steps),
        _answers(events),
        _recipe(folder),
    ]
    return page(f"Run {folder.path.name}", _lead(events), [part for part in parts if part])


def write_report(folder: RunFolder, path: Path | None = None) -> Path:
    """The page beside the run's events, or where it is asked for."""
    found = path or folder.path / FILE
    found.write_text(report_of(folder), encoding="utf-8")
    return found


# ---------------------------------------------------------------- words


def _lead(events: Sequence[Event]) -> str:
    started = next((event for event in reversed(events) if event["event"] == "started"), None)
    if started is None:
        return "not started yet"
    control = "" if started["control"] == "none" else f" · control {started['control']}: scores at wrong places"
    return escape(f"recipe {started['recipe']} · {started['steps']} steps{control}")


def _recipe(folder: RunFolder) -> str:
    text = escape(folder.recipe.read_text(encoding="utf-8"))
    return section("Recipe", f'<pre class="scroll">{text}</pre>', "With every default.")


def _summary(folder: RunFolder, events: Sequence[Event], steps: Sequence[Event]) -> str:
    summary: dict[str, Any] = json.loads(folder.summary.read_text(encoding="utf-8")) if folder.summary.exists() else {}
    lives = sum(event["event"] == "started" for event in events)
    asked = [event["accuracy"] for event in events if event["event"] == "evaluation"]
    ended = f"ended early: {summary['ended']}" if summary.get("ended") else "finished" if summary else "not finished"
    left_out = " / ".join(f"{_sum(steps, name):.0f}" for name in ("skipped", "dropped", "reweighted"))
    rows = [
        ("state", escape(ended)),
        ("steps", str(steps[-1]["step"] if steps else 0)),
        ("held-out accuracy, first and last", f"{asked[0]:.1%} → {asked[-1]:.1%}" if asked else "never asked"),
        ("rollouts", f"{_sum(steps, 'rollouts'):,.0f}"),
        ("tokens drawn", f"{_sum(steps, 'tokens_generated'):,.0f}"),
        ("rows scored", f"{_sum(steps, 'rows_scored'):,.0f}"),
        ("rollouts skipped, dropped, re-weighted", left_out),
        ("starts of a learner", str(lives)),
    ]
    return section("In short", table(("", ""), rows, numbers=(1,)))


def _alarms(events: Sequence[Event]) -> str:
    """Alarms, and rollouts that failed for good."""
    rows = [
        (str(event["step"]), f'<span class="no">{escape(event["action"])}</span>', escape(event["sentence"]))
        for event in events
        if event["event"] == "alarm"
    ]
    failed = Counter((event["step"], event["code"], event["message"]) for event in events if event["event"] == "skipped")
    rows += [
        (str(step), "skipped", escape(f"{count} rollouts: {code}: {message}")) for (step, code, message), count in failed.items()
    ]
    return section("Alarms and failures", table(("step", "", "what"), rows)) if rows else ""


# ---------------------------------------------------------------- curves


def _accuracy(events: Sequence[Event]) -> str:
    points = [(float(event["step"]), float(event["accuracy"])) for event in events if event["event"] == "evaluation"]
    if not points:
        return ""
    chart = line_chart([Series("accuracy", points)], "step", "held-out accuracy", percent=True, y_max=1.0)
    return section("Held-out accuracy", chart, "Greedy answers to held-out prompts.")


def _chart(curve: Curve, steps: Sequence[Event]) -> str:
    found = [Series(name, _points(steps, path), tone) for (name, path), tone in zip(curve.series, TONES, strict=False)]
    series = [one for one in found if any(y for _, y in one.points)]
    if not series:
        return ""
    return section(curve.title, line_chart(series, "step", curve.unit, percent=curve.percent), curve.note)


def _of_each_term(steps: Sequence[Event]) -> list[str]:
    """What each of several terms brings, a term that brings nothing included; one term alone is the loss itself."""
    found = [re.fullmatch(r"term\.(.+)\.loss", name) for step in steps for name in step["metrics"]]
    terms = list(dict.fromkeys(one[1] for one in found if one))
    charts: list[str] = []
    for title, unit, figure, percent, note in OF_EACH_TERM if len(terms) > 1 else ():
        series = [
            Series(term, _points(steps, f"metrics/term.{term}.{figure}"), tone, dashed=place >= len(TONES))
            for place, (term, tone) in enumerate(zip(terms, cycle(TONES), strict=False))
        ]
        charts.append(section(title, line_chart(series, "step", unit, percent=percent, legend=True), note))
    return charts


def _points(steps: Sequence[Event], path: str) -> list[Point]:
    found = ((float(step["step"]), _at(step, path)) for step in steps)
    return [(x, float(y)) for x, y in found if y is not None]


def _at(event: Event, path: str) -> float | None:
    value: Any = event
    for part in path.split("/"):
        value = cast(Event, value).get(part) if isinstance(value, Mapping) else None
    return value


def _sum(steps: Sequence[Event], path: str) -> float:
    return sum(_at(step, path) or 0 for step in steps)


# ---------------------------------------------------------------- tables


def _time(steps: Sequence[Event]) -> str:
    if not steps:
        return ""
    sides = {side: _sum(steps, f"seconds/{side}") for side in steps[-1]["seconds"]}
    total, slowest = sum(sides.values()) or 1.0, Counter(step["bottleneck"] for step in steps)
    rows = [(escape(side), f"{took_s:.1f} s", f"{took_s / total:.0%}", str(slowest[side])) for side, took_s in sides.items()]
    idle = [(f"{lane}: waiting for others", f"{_sum(steps, f'idle_seconds/{lane}'):.1f} s", "", "") for lane in _lanes(steps)]
    note = "Stages of one step may run beside stages of another, so their seconds are no wall time where rollouts run ahead."
    header = ("stage", "seconds", "share of work", "steps in which it was slowest")
    return section("Where the time went", table(header, [*rows, *idle], numbers=(1, 2, 3)), note)


def _lanes(steps: Sequence[Event]) -> Iterator[str]:
    yield from steps[-1].get("idle_seconds", {})


def _spending(steps: Sequence[Event]) -> str:
    graded = [step["grading"] for step in steps if step["grading"]]
    if not graded:
        return ""
    names = ("verdicts", "missing", "calls", "prompt_tokens", "completion_tokens")
    rows = [(name.replace("_", " "), f"{sum(one[name] for one in graded):,}") for name in names]
    return section("What providers were asked", table(("", "over the run"), rows, numbers=(1,)), "As they counted it.")


def _receipts(steps: Sequence[Event]) -> str:
    totals: dict[tuple[str, ...], list[int]] = {}
    for one in (one for step in steps for one in step.get("receipts", ())):
        who = tuple(str(one[name]) for name in ("teacher", "model", "manifest", "engine", "dtype"))
        counts = totals.setdefault(who, [0, 0])
        counts[0] += one["tokens_computed"]
        counts[1] += one["tokens_reused"]
    if not totals:
        return ""
    rows = [(*map(escape, who), *(f"{count:,}" for count in counts)) for who, counts in totals.items()]
    header = ("teacher", "model", "manifest", "engine", "dtype", "tokens computed", "tokens reused")
    return section("Who scored", table(header, rows, numbers=(5, 6)), "From the receipts of the scores that were trained on.")


def _answers(events: Sequence[Event]) -> str:
    asked = [event for event in events if event["event"] == "evaluation"]
    if not asked:
        return ""
    rows = [
        (f"<code>{escape(old['prompt'])}</code>", escape(old["answer"]), _marked(old), _marked(new))
        for old, new in zip(asked[0]["samples"], asked[-1]["samples"], strict=False)
    ]
    return section("Answers", table(("prompt", "right answer", "at the first evaluation", "at the last"), rows))


def _marked(sample: Event) -> str:
    return f'<span class="mono {"ok" if sample["right"] else "no"}">{escape(sample["response"])}</span>'
