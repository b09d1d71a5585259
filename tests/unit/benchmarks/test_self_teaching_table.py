"""The table of self-teachers: which recipes it holds, under which rule, and who stands in the student's place."""

from __future__ import annotations

from benchmarks.learning_table import STEPS
from benchmarks.pair_table import ROOT, environment
from benchmarks.self_teaching_table import RECIPES, ReaderPair, asked_for
from preceptor.compare import entries_of
from preceptor.demo.pair import STUDENT_NAME
from preceptor.recipes import load_recipe

PAIR = ReaderPair.at(ROOT / "examples" / "tiny")
NOT_HERE = {"opsdc"}  # "be brief"


def test_every_shipped_recipe_whose_teacher_reads_a_view_as_a_copy_of_the_student_is_in_it():
    shipped = {path.stem: load_recipe(path) for path in (ROOT / "recipes").glob("*.yaml")}
    taught = {name for name, one in shipped.items() if any(t.student_copy and t.view for t in one.teachers.values())}
    assert taught - NOT_HERE == set(RECIPES) - {"grpo", "tiny-sft"}


def test_what_reads_scores_has_a_control_and_all_run_by_the_rule():
    entries = list(entries_of(asked_for(1, 1)))
    assert {entry.load().schedule.steps for entry in entries} == {STEPS}
    assert {entry.recipe.stem for entry in entries if entry.control != "none"} == set(RECIPES) - {"tiny-sft"}


def test_the_reader_stands_where_the_student_does(tmp_path):
    told = environment(PAIR, tmp_path)
    assert told["PRECEPTOR_ROLLOUT_MODEL"] == told["PRECEPTOR_STUDENT_MODEL"] == f"{STUDENT_NAME}={PAIR.folder / 'reader'}"
    assert told["PRECEPTOR_STUDENT_TEACHER_HEADS"] == str(PAIR.folder / "teacher")
