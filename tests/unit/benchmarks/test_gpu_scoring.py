"""The command for GPU machines runs anywhere; what it prints on a CPU are no figures, but every one of them is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_scoring

ON_CPU = ["--device", "cpu", "--dtype", "f32", "--shapes", "tiny", "--repeats", "1", "--peak-tflops", "1"]
NOT_INSTALLED = ("rich", "grpc", "pydantic", "google.protobuf", "fastapi")


def rows_of(out: Path) -> dict[str, dict]:
    return {row["id"]: row for row in json.loads(out.read_text())}


def test_it_measures_a_tiny_shape_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    gpu_scoring.main([*ON_CPU, "--tokens", "64", "96", "--out", str(out)])
    rows, told = rows_of(out), capsys.readouterr().out
    for tokens in (64, 96):
        topk, candidates, mfu = (rows[f"G1.{what}.tiny.{tokens}"] for what in ("topk", "candidates", "mfu"))
        detail = topk["detail"]
        assert topk["value"] == pytest.approx(detail["topk_s"] / detail["head_s"], rel=0.1)
        assert (topk["bar"], candidates["bar"], candidates["better"]) == (2.0, 1.3, "lower")
        assert 0 < mfu["value"] < 1
        assert detail["peak_bytes_over_weights"] is None
        assert topk["id"] in told
    assert rows["P7.readout.cuda.bf16"]["error"] == "measured on a GPU only"


def test_what_does_not_fit_is_a_row_and_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, out = gpu_scoring.measure, tmp_path / "figures.json"

    def too_large(name, model, head, tokens, machine):
        if tokens == 96:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore.")
        return measure(name, model, head, tokens, machine)

    monkeypatch.setattr(gpu_scoring, "measure", too_large)
    gpu_scoring.main([*ON_CPU, "--tokens", "96", "64", "--out", str(out)])
    rows = rows_of(out)
    assert rows["G1.tiny.96"]["error"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB."
    assert "value" in rows["G1.topk.tiny.64"]


@pytest.mark.slow
def test_it_needs_torch_and_transformers_and_nothing_else_of_ours(tmp_path: Path) -> None:
    """As on a machine where the project is not installed: the script finds its own repository."""
    blocked = f"import sys; sys.modules.update(dict.fromkeys({NOT_INSTALLED!r}))"
    run = f"{blocked}; import runpy; runpy.run_path({str(gpu_scoring.__file__)!r}, run_name='__main__')"
    flags = [*ON_CPU, "--tokens", "16", "--out", str(tmp_path / "figures.json")]
    command = [sys.executable, "-c", run, *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "G1.topk.tiny.16" in done.stdout


@pytest.mark.parametrize(("name", "billions"), [("1b", 1.1), ("4b", 4.0), ("8b", 7.6)])
def test_shapes_are_as_large_as_their_names(name: str, billions: float) -> None:
    shape = gpu_scoring.SHAPES[name]
    attention = 2 * shape.hidden * shape.head_size * (shape.heads + shape.key_value_heads)
    body = shape.layers * (attention + 3 * shape.hidden * shape.intermediate)
    assert (body + shape.hidden * shape.vocabulary) / 1e9 == pytest.approx(billions, rel=0.1)
