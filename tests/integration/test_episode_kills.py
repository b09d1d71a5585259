"""Deaths in the middle of a rollout of several turns, with real services: a slice of `make test-episode-faults`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.faults.episodes import STEPS, kill_run, on_stage
from tests.faults.results import Outcome


async def kills(folder: Path) -> list[Outcome]:
    async with on_stage(folder) as stage:
        await stage.perform("calm")
        calm = stage.left("calm")
        assert [step for step, *_ in calm.losses] == list(range(1, STEPS + 1))
        return [await kill_run(stage, point, 1, calm) for point in ("rollout: answer appended", "learner: environment answered")]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_death_in_the_middle_of_an_episode_changes_no_bit(tmp_path: Path) -> None:
    found = asyncio.run(kills(tmp_path))
    assert [one.problem for one in found] == ["", ""]
    assert all(one.fine and one.hit for one in found), found
