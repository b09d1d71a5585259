"""The parts of the step benchmark that could flatter a figure: lengths, the tokens of a step, and the arithmetic of overlap."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

from benchmarks.step import cases
from benchmarks.step.ours import lengths_of_rollouts, recipe
from benchmarks.step.overlap import Overlap
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import growth


def test_lengths_are_log_uniform_and_the_same_every_time():
    lengths = np.array(cases.lengths_of(200))
    assert lengths.shape == (200, cases.PROMPTS)
    assert (lengths.min(), lengths.max()) == (cases.SHORTEST, cases.LONGEST)
    assert 60 <= median(lengths.ravel()) <= 68  # the geometric mean of both ends is 64
    assert cases.lengths_of(200) == lengths.tolist()


def test_sequences_end_at_the_lengths_in_the_order_of_their_batch():
    with lengths_of_rollouts([[2, 1], [3, 1]]):
        ended: list[list[int]] = []
        for _ in range(2):
            rules = growth.StopRules.of(rollout_pb2.Sampling(max_new_tokens=4), [1])
            rows: list[list[int]] = [[], []]
            took = [0, 0]
            for _ in range(4):
                for place, row in enumerate(rows):
                    if not took[place]:
                        row.append(1)  # an EOS id, which must not end it
                        took[place] = len(row) if rules.ends(row, str) is not None else 0
            ended.append(took)
    assert ended == [[2, 1], [3, 1]]


@pytest.mark.parametrize(("side_by_side_s", "share"), [(6.0, 1.0), (10.0, 0.6)])
def test_overlap_is_held_against_two_groups_that_never_wait(side_by_side_s, share):
    found = Overlap(in_turn_s=10.0, side_by_side_s=side_by_side_s, drawing_s=6.0)
    assert found.rest_s == 4.0
    assert found.share == pytest.approx(share)


def test_our_step_is_the_documented_one(tmp_path):
    compiled = recipe(cases.save_prompts(tmp_path / "prompts.jsonl", 2), 2, staleness=1)
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == 2 * cases.PROMPTS
    assert compiled.recipe.schedule.prompts_per_step == cases.PROMPTS == 32
    assert compiled.recipe.training.layout == "packed"
    assert compiled.recipe.schedule.publish_every_steps == 1
