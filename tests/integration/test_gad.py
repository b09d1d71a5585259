"""gad on the bundled pair: equal scores move nothing, a discriminator that has learned moves the student, and twice alike."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.recipes import compile_recipe, load_recipe
from preceptor_teacher.testing import standing_in
from tests.integration.test_black_box_recipes import BUNDLED_TEACHER, LEARNING, OVERRIDES, OWN, ROOT, environ_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there"),
]


async def grad_norms(folder: Path, warmup_updates: int) -> list[float]:
    learning = (*OWN["gad"], f"{LEARNING}.warmup_updates={warmup_updates}")
    overrides = (*OVERRIDES, "schedule.steps=4", *learning)
    plan = RunPlan.of("gad", "local", compile_recipe(load_recipe(ROOT / "recipes" / "gad.yaml", overrides)))
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(standing_in(BUNDLED_TEACHER))
        environ = environ_of(folder, provider)
        ports = await stack.enter_async_context(in_this_process(ClientSettings(), folder, environ=environ))
        await Learner(plan, ports, RunFolder.of(folder, "gad")).run()
    events: list[dict[str, Any]] = list(RunFolder.of(folder, "gad").told())
    return [event["grad_norm"] for event in events if event["event"] == "step"]


async def test_equal_scores_are_no_gradient_at_all_and_the_same_run_is_the_same(tmp_path: Path) -> None:
    """All texts score 0 before the first update, and all rewards are 0 while the discriminator warms up."""
    for name in ("first", "second", "warm"):
        (tmp_path / name).mkdir()
    first, second = await grad_norms(tmp_path / "first", 0), await grad_norms(tmp_path / "second", 0)
    assert first[0] == 0.0
    assert max(first[1:]) > 0.0
    assert first == second, "whatever the order in which the groups of a step are graded"
    warm = await grad_norms(tmp_path / "warm", 2)
    assert warm[:2] == [0.0, 0.0]
    assert max(warm[2:]) > 0.0
