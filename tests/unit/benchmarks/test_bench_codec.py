"""What the codec benchmark claims about size holds on every machine, and both of its sides carry the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bench_codec, results
from preceptor.codec import Grade


def test_bytes_per_row_are_within_their_bars() -> None:
    rows = bench_codec.random_rows(np.random.default_rng(1), bench_codec.ROWS, bench_codec.TOPK)
    missed = [(r.id, r.value, r.bar) for r in bench_codec.size_results(rows) if not r.ok]
    assert missed == []


def test_both_sides_hand_over_the_same_scores() -> None:
    rows = bench_codec.random_rows(np.random.default_rng(1), 3, 5)
    assert rows.topk is not None
    tree = json.loads(json.dumps(bench_codec.vllm_tree(rows)))
    ids, logprobs = bench_codec.vllm_arrays(tree)
    ours = bench_codec.ours_read(bench_codec.ours_write(rows, Grade.F32)).topk
    assert ours is not None
    np.testing.assert_array_equal(ids, ours.ids)
    np.testing.assert_array_equal(logprobs, ours.logprobs)


def test_results_are_written_in_the_shape_that_every_benchmark_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    rows = [
        results.Result("A", "speed", 3.0, 2.0, "higher", {"k": 1}),
        results.Result("B", "size", 3.0, 2.0, "lower"),
    ]
    path = results.write_results("both", rows, ["a note"])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert path == tmp_path / "both.json"
    assert [(r["id"], r["value"], r["bar"], r["better"], r["ok"]) for r in written] == [
        ("A", 3.0, 2.0, "higher", True),
        ("B", 3.0, 2.0, "lower", False),
    ]
    assert written[0]["detail"]["k"] == 1
    assert "a note" in capsys.readouterr().out
