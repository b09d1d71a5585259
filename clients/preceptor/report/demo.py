"""The report of a demo: what was learned, the controls beside it, and one rollout coloured by disagreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from preceptor.report.chart import Point, Series, line_chart
from preceptor.report.page import mark, page, section, side_by_side, table

FULL_COLOUR_NATS = 4.0


@dataclass(frozen=True, slots=True)
class RunCurves:
    """One run over its steps. `tone`: run, control or second (a class of the style)."""

    label: str
    accuracy: Sequence[Point]
    reverse_kl: Sequence[Point] = ()
    tone: str = "run"
    seconds: float = math.nan
    teacher_tokens: int = 0
    verdicts: Sequence[Point] = ()

    @property
    def start(self) -> float:
        return self.accuracy[0][1] if self.accuracy else math.nan

    @property
    def end(self) -> float:
        return self.accuracy[-1][1] if self.accuracy else math.nan


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out prompt and what became of it."""

    prompt: str
    answer: str
    before: str
    after: str
    teacher: str
    before_right: bool
    after_right: bool


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """One response token under both models, and what the teacher would rather have read."""

    text: str
    student_logprob: float
    teacher_logprob: float
    alternatives: Sequence[tuple[str, float]] = ()

    @property
    def disagreement_nats(self) -> float:
        """How much likelier the student found its own token than the teacher does."""
        return max(0.0, self.student_logprob - self.teacher_logprob)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One claim, its figure and its bar."""

    claim: str
    value: str
    bar: str
    ok: bool


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Everything the page shows."""

    title: str
    command: str
    when: str
    machine: str
    teacher_accuracy: float
    runs: Sequence[RunCurves]
    criteria: Sequence[Criterion]
    samples: Sequence[Sample] = ()
    rollout: Sequence[ScoredToken] = ()
    rollout_prompt: str = ""
    sharing: Sequence[Sequence[str]] = ()
    sharing_header: Sequence[str] = ()
    costs: Sequence[Sequence[str]] = ()
    costs_header: Sequence[str] = ()
    receipt: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: Sequence[str] = ()


def render_demo(report: DemoReport) -> str:
    """The page."""
    lead = f"<code>{escape(report.command)}</code> · {escape(report.when)} · {escape(report.machine)}"
    parts = [_criteria(report), side_by_side(_accuracy(report), _signal(report)), _runs(report)]
    optional = (
        (report.samples, _samples),
        (report.rollout, _rollout),
        (report.sharing, _sharing),
        (report.costs, _costs),
        (report.receipt, _receipt),
        (report.notes, _notes),
    )
    return page(report.title, lead, [*parts, *(draw(report) for content, draw in optional if content)])


def _criteria(report: DemoReport) -> str:
    rows = [(escape(one.claim), escape(one.value), escape(one.bar), mark(one.ok)) for one in report.criteria]
    return section("What was claimed, and what came out", table(("claim", "figure", "bar", ""), rows, numbers=(1, 2)))


def _accuracy(report: DemoReport) -> str:
    series = [Series(run.label, run.accuracy, run.tone) for run in report.runs]
    last = max((x for run in report.runs for x, _ in run.accuracy), default=1.0)
    if not math.isnan(report.teacher_accuracy):
        series.append(
            Series("teacher", [(0.0, report.teacher_accuracy), (last, report.teacher_accuracy)], "reference", dashed=True)
        )
    chart = line_chart(series, "step", "held-out accuracy", percent=True, y_max=1.0)
    return section("Held-out accuracy", chart, "Greedy answers to problems that no run has trained on; exact match.")


def _signal(report: DemoReport) -> str:
    """What the runs learned from: verdicts where a teacher gave some, else log-probabilities."""
    verdicts = [Series(run.label, run.verdicts, run.tone) for run in report.runs if run.verdicts]
    if not verdicts:
        return _divergence(report)
    note = "Mean of the teacher's scores for the student's rollouts. The control's rollouts are judged like the others."
    return section("Verdicts", line_chart(verdicts, "step", "mean score", y_max=10.0), note)


def _divergence(report: DemoReport) -> str:
    series = [Series(run.label, run.reverse_kl, run.tone) for run in report.runs if run.reverse_kl]
    note = "Nats per token between student and the scores it was given, on the student's own rollouts. Lower is closer."
    return section("Reverse KL", line_chart(series, "step", "nats per token"), note)


def _runs(report: DemoReport) -> str:
    rows = [
        (
            escape(run.label),
            f"{run.start:.1%}",
            f"{run.end:.1%}",
            f"{100 * (run.end - run.start):+.1f}",
            _count(run),
            _seconds(run),
        )
        for run in report.runs
    ]
    if not math.isnan(report.teacher_accuracy):
        rows.append(("teacher", f"{report.teacher_accuracy:.1%}", f"{report.teacher_accuracy:.1%}", "", "", ""))
    header = ("run", "before", "after", "points", "teacher tokens", "time")
    return section(
        "Before and after", table(header, rows, numbers=(1, 2, 3, 4, 5)), "All runs start from the same weights and seeds."
    )


def _count(run: RunCurves) -> str:
    return f"{run.teacher_tokens:,}" if run.teacher_tokens else ""


def _seconds(run: RunCurves) -> str:
    return "" if math.isnan(run.seconds) else f"{run.seconds:.0f} s"


def _samples(report: DemoReport) -> str:
    rows = [
        (
            f"<code>{escape(one.prompt)}</code>",
            _answer(one.before, one.before_right),
            _answer(one.after, one.after_right),
            _answer(one.teacher, True),
        )
        for one in report.samples
    ]
    return section("Three held-out answers", table(("prompt", "student before", "student after", "teacher"), rows))


def _answer(text: str, right: bool) -> str:
    return f'<span class="mono {"ok" if right else "no"}">{escape(text)}</span>'


def _rollout(report: DemoReport) -> str:
    tokens = "".join(_token(one) for one in report.rollout)
    legend = (
        f"<p class='soft'>agrees<span class='scale'></span>the teacher finds it {FULL_COLOUR_NATS:g} nats or more less likely "
        "than the student did. Hover a token for both log-probabilities.</p>"
    )
    prompt = f'<p><code>{escape(report.rollout_prompt)}</code></p><div class="tokens">{tokens}</div>{legend}'
    return section(
        "One rollout, coloured by disagreement", prompt, "Drawn by the student before training, scored by the teacher."
    )


def _token(one: ScoredToken) -> str:
    strength = min(1.0, one.disagreement_nats / FULL_COLOUR_NATS)
    hue, alpha = 30 - 28 * strength, 0.8 * strength
    said = f"student {one.student_logprob:.2f}, teacher {one.teacher_logprob:.2f}"
    if one.alternatives:
        said += "; teacher: " + ", ".join(f"{text!r} {math.exp(value):.0%}" for text, value in one.alternatives)
    colour = f"background: hsla({hue:.0f}, 80%, 50%, {alpha:.2f})"
    return f'<span style="{colour}" title="{escape(said, quote=True)}">{escape(_visible(one.text))}</span>'


def _visible(text: str) -> str:
    return text.replace("\n", "⏎") or "∅"


def _sharing(report: DemoReport) -> str:
    rows = [[escape(cell) for cell in row] for row in report.sharing]
    return section(
        "How the teacher's time was shared", table(report.sharing_header, rows, numbers=range(1, len(report.sharing_header)))
    )


def _costs(report: DemoReport) -> str:
    rows = [[escape(cell) for cell in row] for row in report.costs]
    note = "As the provider counted them. Missing verdicts were asked for and not given; such a rollout does not count."
    return section(
        "What the teacher was asked", table(report.costs_header, rows, numbers=range(1, len(report.costs_header))), note
    )


def _receipt(report: DemoReport) -> str:
    rows = [(escape(name), f"<code>{escape(value)}</code>") for name, value in report.receipt.items()]
    return section("Receipt", table(("field", "value"), rows), "What exactly produced the scores above.")


def _notes(report: DemoReport) -> str:
    return section("Notes", "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in report.notes) + "</ul>")
