"""Line charts as inline SVG: axes, grid, one line a series with its name at its end, values on hover."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 150, 16, 36
END = 14  # right of the last point where no names stand there
LABEL_GAP = 15.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `tone` is a class of the page's style: run, control or reference."""

    name: str
    points: Sequence[Point]
    tone: str = "run"
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """Where data lies on the picture."""

    x_max: float
    y_min: float
    y_max: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / (self.x_max or 1.0)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - self.y_min) / ((self.y_max - self.y_min) or 1.0))


def line_chart(
    series: Sequence[Series],
    x_name: str,
    y_name: str,
    *,
    percent: bool = False,
    y_max: float | None = None,
    legend: bool = False,
) -> str:
    """The SVG of all series over a common x axis that starts at 0. Many or long names stand in a legend below it."""
    finite = (replace(one, points=[(x, y) for x, y in one.points if math.isfinite(y)]) for one in series)
    drawn = [one for one in finite if one.points]
    frame = _frame(drawn, y_max)
    parts = [*_grid(frame, percent), *_axis_names(x_name, y_name), *_x_ticks(frame)]
    parts += [_line(one, frame, percent) for one in drawn]
    width, below = (WIDTH - RIGHT + END, _legend(drawn)) if legend else (WIDTH, "")
    parts += [] if legend else _names(drawn, frame)
    told = f'role="img" aria-label="{escape(y_name)} by {escape(x_name)}"'
    return f'<svg viewBox="0 0 {width} {HEIGHT}" {told}>{"".join(parts)}</svg>{below}'


def _frame(series: Sequence[Series], y_max: float | None) -> Frame:
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    lowest, most = min(0.0, min(ys, default=0.0)), max(ys, default=1.0)
    rounded = 0.0 if most <= 0 and lowest < 0 else _round_up(most)
    return Frame(max(xs, default=1.0), lowest, rounded if y_max is None else y_max)


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _grid(frame: Frame, percent: bool) -> list[str]:
    parts: list[str] = []
    for i in range(5):
        value = frame.y_min + (frame.y_max - frame.y_min) * i / 4
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_told(value, percent)}</text>')
    return parts


def _x_ticks(frame: Frame) -> list[str]:
    step = max(1, int(_round_up(frame.x_max / 6)))
    marks = range(0, int(frame.x_max) + 1, step)
    return [
        f'<text class="tick" x="{frame.x(mark):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{mark}</text>'
        for mark in marks
    ]


def _axis_names(x_name: str, y_name: str) -> list[str]:
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [
        f'<text class="axis" x="{middle:.0f}" y="{HEIGHT - 2}" text-anchor="middle">{escape(x_name)}</text>',
        f'<text class="axis" x="14" y="{HEIGHT / 2:.0f}" transform="rotate(-90 14 {HEIGHT / 2:.0f})" '
        f'text-anchor="middle">{escape(y_name)}</text>',
    ]


def _line(one: Series, frame: Frame, percent: bool) -> str:
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in one.points)
    dash = ' stroke-dasharray="5 4"' if one.dashed else ""
    dots = "".join(
        f'<circle class="dot {one.tone}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="{2.6 if len(one.points) < 30 else 1.2}">'
        f"<title>{escape(one.name)}: {_told(y, percent)} at {x:g}</title></circle>"
        for x, y in one.points
    )
    return f'<polyline class="line {one.tone}" points="{path}"{dash}/>{dots}'


def _names(series: Sequence[Series], frame: Frame) -> list[str]:
    """Names at the ends of the lines, pushed apart where lines end close together."""
    wanted = [(frame.y(one.points[-1][1]), one) for one in series]
    placed: list[str] = []
    lowest = -math.inf
    for y, one in sorted(wanted, key=lambda pair: pair[0]):
        lowest = max(y, lowest + LABEL_GAP)
        placed.append(f'<text class="name {one.tone}" x="{WIDTH - RIGHT + 8}" y="{lowest + 4:.1f}">{escape(one.name)}</text>')
    return placed


def _legend(series: Sequence[Series]) -> str:
    keys = (f'<span class="key {one.tone}{" dashed" if one.dashed else ""}">{escape(one.name)}</span>' for one in series)
    return f'<p class="legend">{"".join(keys)}</p>'


def _told(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{value:.3g}"
