"""The parts of the step benchmark that could flatter a figure: lengths, the tokens of a step, and the arithmetic of overlap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median

import numpy as np
import pytest

from benchmarks.bench_step import ACCUMULATE, Bench, step_results, turns_of
from benchmarks.step import cases
from benchmarks.step.ours import lengths_of_rollouts, recipe
from benchmarks.step.overlap import Overlap, busy_s
from benchmarks.step.parts import Parts
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import growth


def test_lengths_are_log_uniform_and_the_same_every_time():
    lengths = np.array(cases.lengths_of(200))
    assert lengths.shape == (200, cases.PROMPTS)
    assert (lengths.min(), lengths.max()) == (cases.SHORTEST, cases.LONGEST)
    assert 60 <= median(lengths.ravel()) <= 68  # the geometric mean of both ends is 64
    assert cases.lengths_of(200) == lengths.tolist()


def test_a_word_of_a_prompt_is_one_token(tmp_path):
    prompts = cases.save_prompts(tmp_path / "prompts.jsonl", 1).read_text().splitlines()
    tokenizer = cases.tokenizer_of(cases.STUDENT.vocabulary)
    assert {len(tokenizer(json.loads(line)["prompt"])["input_ids"]) for line in prompts} == {cases.PROMPT_WORDS}
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (cases.END, cases.PADDING)


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
                        took[place] = len(row) if rules.ends(row, str, 0) is not None else 0
            ended.append(took)
    assert ended == [[2, 1], [3, 1]]


@pytest.mark.parametrize(("side_by_side_s", "share"), [(6.0, 1.0), (10.0, 0.6)])
def test_overlap_is_held_against_two_groups_that_never_wait(side_by_side_s, share):
    found = Overlap(side_by_side_s, drawing_s=6.0, rest_s=4.0)
    assert found.speedup == pytest.approx(10.0 / side_by_side_s)
    assert found.share == pytest.approx(share)


def test_our_step_is_the_documented_one(tmp_path):
    compiled = recipe(cases.save_prompts(tmp_path / "prompts.jsonl", 2), 2, staleness=1)
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == 2 * cases.PROMPTS
    assert compiled.recipe.schedule.prompts_per_step == cases.PROMPTS == 32
    assert compiled.recipe.training.layout == "packed"
    assert compiled.recipe.schedule.publish_every_steps == 1


def test_of_both_runs_only_steps_with_something_beside_them_count():
    in_turn = {"seconds": [99.0, 10.0, 10.0], "drawing": [99.0, 6.0, 6.0], "busy": [99.0, 5.0, 5.0]}
    assert Overlap.of(in_turn, {"seconds": [99.0, 6.5, 1.0]}) == Overlap(6.5, 6.0, 5.0)


BURN = """
import os, time
os.sched_setaffinity(0, {%d})
while time.process_time() < 0.2:
    pass
print("worked", flush=True)
input()
"""


def test_work_is_counted_on_the_core_that_it_is_bound_to():
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", BURN % core]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline() == b"worked\n"
        assert busy_s(core) >= 0.15  # counted in hundredths
        assert busy_s(core + 10_000) == 0.0
        child.communicate(b"\n")


SECONDS = {"ours": 2.0, "ours-whole": 4.0, "trl-1": 9.0, "trl-4": 8.0}


class Pretended(Bench):
    """Sides that take what they are told to, and say when they were asked."""

    def sides(self):
        def run(name):
            asked.append(name)
            seconds = SECONDS[name.split("-", 2)[2]]
            return {"seconds": [99.0, seconds, seconds], "drawing": [1.0] * 3, "tokens": [5.0] * 3}

        return dict.fromkeys(SECONDS, run)


asked: list[str] = []


@pytest.fixture
def bench(tmp_path):
    asked.clear()
    return Pretended(tmp_path, (tmp_path, tmp_path), tmp_path, [[1]] * 3, 1)


def test_the_opponent_runs_at_its_better_setting_turn_by_turn_in_alternating_order(bench):
    turns = turns_of(bench, Parts(None), 2)
    first, second = [f"turn-0-{name}" for name in SECONDS], ["turn-1-trl-4", "turn-1-ours-whole", "turn-1-ours"]
    assert asked == [*first, *second]
    assert len(ACCUMULATE) == 2
    assert [(row.id, row.value) for row in step_results(turns, 1)] == [("P8.step", 4.0), ("P8.step.whole", 2.0)]


def test_a_bench_that_was_stopped_goes_on_at_the_same_commit_alone(bench, tmp_path):
    def again(commit, options="3"):
        asked.clear()
        return turns_of(bench, Parts.of(tmp_path, commit, options), 1), len(asked)

    first, count = again("abc")
    assert count == 4
    next((tmp_path / "abc-3").glob("*trl-1*")).unlink()
    assert again("abc") == (first, 1)
    assert [again("abd")[1], again("abc", "4")[1]] == [4, 4]
    assert [again("abc-dirty")[1], again("abc-dirty")[1], again("unknown")[1]] == [4, 4, 4]
