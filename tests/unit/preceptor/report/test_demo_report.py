"""The report is one file that fetches nothing, says what it was given, and lets no text become markup."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from itertools import pairwise

from preceptor.report import Criterion, DemoReport, RunCurves, Sample, ScoredToken, render_demo
from preceptor.report.chart import Series, line_chart

VOID = {"meta", "link", "br"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order or left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def report(**changes) -> DemoReport:
    base = {
        "title": "A demo",
        "command": "make demo",
        "when": "today",
        "machine": "here",
        "teacher_accuracy": 0.99,
        "runs": [
            RunCurves(
                "distilled", [(0, 0.25), (60, 0.9)], [(1, 0.5), (2, math.nan), (3, 0.25)], seconds=61, teacher_tokens=123456
            )
        ],
        "criteria": [Criterion("it learns", "90%", ">= 84%", True), Criterion("it flies", "0 m", ">= 1 m", False)],
        "samples": [Sample("1+<b>", "2", "<script>alert(1)</script>", "2", "2", False, True)],
        "rollout": [ScoredToken('<i>"', -0.1, -5.0, [("x", -0.5)]), ScoredToken("\n", -0.2, -0.2)],
    }
    return DemoReport(**(base | changes))


def test_verdicts_take_the_place_of_divergence_and_costs_have_a_table():
    judged = RunCurves("judged", [(0, 0.2), (9, 0.4)], verdicts=[(1, 3.0), (9, 7.5)])
    html = render_demo(report(runs=[judged], costs=[("judged", "1,024", "<5>")], costs_header=("run", "calls", "tokens")))
    assert "mean score" in html
    assert "nats per token" not in html
    assert "<td" in html
    assert "1,024" in html
    assert "&lt;5&gt;" in html
    assert "What the teacher was asked" not in render_demo(report())


def test_the_page_is_whole_and_fetches_nothing():
    html = render_demo(report())
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r"(src|href)=|url\(|@import", html)


def test_text_of_models_never_becomes_markup():
    html = render_demo(report())
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html


def test_it_says_what_was_reached_and_what_was_not():
    html = render_demo(report())
    assert html.count("not reached") == 1
    assert "+65.0" in html
    assert "123,456" in html


def test_disagreement_is_the_students_overconfidence_and_never_negative():
    assert ScoredToken("a", -1.0, -3.5).disagreement_nats == 2.5
    assert ScoredToken("a", -3.5, -1.0).disagreement_nats == 0.0


def test_a_chart_skips_values_that_are_not_numbers_and_keeps_names_apart():
    svg = line_chart(
        [Series(name, [(0, 0.0), (10, 0.5)]) for name in "abc"] + [Series("gap", [(0, math.nan), (10, 1.0)])], "x", "y"
    )
    assert "nan" not in svg
    names = sorted(float(y) for y in re.findall(r'class="name [a-z]+" x="\d+" y="([\d.]+)"', svg))
    assert len(names) == 4
    assert min(b - a for a, b in pairwise(names)) >= 14.9
