"""What the loss benchmark compares is the same work, and the chunked way holds no plane of rows x vocabulary."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import bench_loss, results
from benchmarks.loss.cases import FORMS, chunked, make_case, own_bytes_of, plain
from benchmarks.loss.memory import in_fresh_process


@pytest.mark.parametrize("form", FORMS)
def test_both_ways_give_the_same_loss_and_gradients(form: str) -> None:
    ours, theirs = make_case(form, 9, 700, 16), make_case(form, 9, 700, 16)
    assert chunked(ours) == pytest.approx(plain(theirs), rel=1e-5)
    assert ours.own_bytes > 2 * 4 * 16 * (9 + 700)
    for mine, other in ((ours.states_nh, theirs.states_nh), (ours.weight_vh, theirs.weight_vh)):
        assert mine.grad is not None
        assert mine.grad.abs().max() > 1e-4
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_a_case_takes_is_known_before_it_is_made(form: str) -> None:
    assert own_bytes_of(form, 64, 7000, 32) == pytest.approx(make_case(form, 64, 7000, 32).own_bytes, rel=0.1)


def test_a_part_that_is_measured_again_leaves_the_others_as_they_were(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)

    def figure(name: str, value: float) -> results.Result:
        return results.Result(name, name, value, 1.0, "lower")

    results.add_results("loss", [figure("a", 1.0), figure("b", 2.0)])
    results.add_results("loss", [figure("b", 3.0), figure("c", 4.0)])
    found = json.loads((tmp_path / "loss.json").read_text())
    assert [(one["id"], one["value"]) for one in found] == [("a", 1.0), ("b", 3.0), ("c", 4.0)]


def test_what_does_not_fit_or_takes_too_long_is_named_and_not_measured(monkeypatch, capsys) -> None:
    assert list(bench_loss.memory("rows", 1 << 30, timeout_s=60)) == []
    monkeypatch.setattr(bench_loss, "VOCABULARY", 512)
    assert list(bench_loss.memory("lists", 64, timeout_s=0.01)) == []
    said = capsys.readouterr().out
    assert "P7.loss.rows was not measured: it needs" in said
    assert "P7.loss was not measured: it took more than 0.01 s" in said


@pytest.mark.slow
def test_only_the_plain_way_holds_a_plane_of_logits() -> None:
    rows, vocabulary = 1536, 100_000
    plane = rows * vocabulary * 4
    assert in_fresh_process("chunked", "lists", rows, vocabulary, 8)["peak_bytes"] < plane / 2
    assert in_fresh_process("plain", "lists", rows, vocabulary, 8)["peak_bytes"] > 2 * plane
