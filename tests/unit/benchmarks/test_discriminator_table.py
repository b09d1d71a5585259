"""The table of the discriminator: who is in it, and under which rule."""

from __future__ import annotations

from benchmarks.black_box_table import CRITIC_NAME, OVERRIDES
from benchmarks.discriminator_table import SEEDS, asked_for
from preceptor.compare import entries_of


def test_the_discriminator_stands_beside_the_reward_of_an_exact_match_each_with_its_control() -> None:
    entries = list(entries_of(asked_for(SEEDS, SEEDS)))
    assert [(one.recipe.stem, one.control) for one in entries[:4]] == [
        ("grpo", "none"),
        ("grpo", "permute_scores"),
        ("gad", "none"),
        ("gad", "permute_scores"),
    ]
    assert len(entries) == 4 * SEEDS
    assert all(one.overrides == OVERRIDES for one in entries)
    assert {teacher.model for teacher in entries[2].plan().compiled.recipe.teachers.values()} == {CRITIC_NAME}
