"""What the scoring benchmark compares is the same work: both sides give the same columns, and a peak of memory is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.scoring.memory import peak_in_fresh_process
from benchmarks.scoring.readouts import make_case, ours, plain, plain_in_place
from preceptor_teacher.readout import ReadoutRows


@pytest.mark.parametrize("signal", ["topk", "topk_alone", "candidates"])
def test_the_readout_and_its_opponents_hand_over_the_same_columns(signal: str) -> None:
    case = make_case(9, 1500, 16, torch.float32, signal)
    got = ours(case)
    assert isinstance(got, ReadoutRows)
    mine = [got.sampled, got.candidates, got.topk and got.topk.logprobs, got.topk and got.topk.ids, got.tail]
    columns = [column for column in mine if column is not None]
    for way in (plain, plain_in_place):
        theirs = way(case)
        assert isinstance(theirs, list)
        assert len(theirs) == len(columns)
        for one, other in zip(columns, theirs, strict=True):
            np.testing.assert_allclose(one.ravel(), other.numpy().ravel(), atol=2e-5)


@pytest.mark.slow
def test_a_peak_of_memory_holds_at_least_the_inputs_and_the_plane_of_the_plain_way() -> None:
    rows, vocabulary = 64, 200_000
    plain_peak = peak_in_fresh_process("plain_in_place", "topk", rows, vocabulary, 4, "float32")
    assert plain_peak["inputs_bytes"] > 4 * vocabulary * 4
    assert plain_peak["peak_bytes"] >= rows * vocabulary * 4
