"""The refill benchmark on the bundled student: what it counts, and that both ways do the same work."""

from __future__ import annotations

import pytest

from benchmarks import bench_refill
from benchmarks.bench_refill import WAYS, measure, results_of
from benchmarks.step import cases
from examples.tiny.decode import MODEL_DIRS


def test_both_ways_draw_the_same_and_are_counted_alike(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_refill, "BATCH_TOKENS", 4 * (4 + 24))
    monkeypatch.setattr(cases, "PROMPT_WORDS", 4)
    monkeypatch.setattr(cases, "LONGEST", 24)
    monkeypatch.setattr(cases, "SHORTEST", 3)
    monkeypatch.setattr(cases, "STUDENT", cases.Shape(16, 1, 250, tied=False))
    turns = measure(MODEL_DIRS["student"], 1, groups=5, samples=4)
    assert len(turns) == 1
    for turn in turns:
        alone, refilled = (turn[way] for way in WAYS)
        assert alone.drawn == refilled.drawn
        assert alone.tokens == refilled.tokens > 60
        assert alone.passes.prompt_tokens == refilled.passes.prompt_tokens == 5 * 4
        assert max(alone.passes.rows) <= 4
        assert alone.used <= 1
        assert refilled.used <= 1
    speed, by_cpu, passes = results_of(turns)
    steps = {way: len(turns[0][way].passes.rows) for way in WAYS}
    assert passes.value == steps["refilled"] / steps["one after the other"] < 1
    assert speed.value > 0
    assert by_cpu.value > 0
