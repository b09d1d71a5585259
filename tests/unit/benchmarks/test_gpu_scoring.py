"""The command for GPU machines runs anywhere; what it prints on a CPU are no figures, but every one of them is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu_scoring


def test_it_measures_a_tiny_shape_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    flags = ["--device", "cpu", "--shapes", "tiny", "--tokens", "64", "96", "--repeats", "1", "--peak-tflops", "1"]
    gpu_scoring.main([*flags, "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["shape"], row["tokens"]) for row in rows] == [("tiny", 64), ("tiny", 96)]
    for row in rows:
        assert row["topk_over_gemm"] == pytest.approx(row["topk_s"] / row["gemm_s"])
        assert 0 < row["mfu"] < 1
        assert row["peak_over_weights"] is None
    assert "tiny" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "billions"), [("1b", 1.1), ("4b", 4.0), ("8b", 7.6)])
def test_shapes_are_as_large_as_their_names(name: str, billions: float) -> None:
    shape = gpu_scoring.SHAPES[name]
    attention = 2 * shape.hidden * shape.head_size * (shape.heads + shape.key_value_heads)
    body = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
    assert (body + shape.hidden * shape.vocabulary) / 1e9 == pytest.approx(billions, rel=0.1)
