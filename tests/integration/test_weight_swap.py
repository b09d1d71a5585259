"""Weights are swapped again and again under rollouts that run: nobody fails, and every token is one that its version drew."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_rollout_service import rollout_process
from tests.support.swapping import STEPS, assert_recomputed, publish, swapped_under_load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_no_rollout_fails_and_every_token_is_its_versions_own(tmp_path: Path) -> None:
    refs = [publish(tmp_path, step) for step in STEPS]
    async with rollout_process(PRECEPTOR_ROLLOUT_WEIGHTS_ROOTS=str(tmp_path)) as (_, client):
        load = await swapped_under_load(client, refs)
    assert {one.model.step for one in load.drawn} == set(STEPS)
    assert load.outlived > 0, "swaps met rollouts that were under way"
    assert_recomputed(tmp_path, load.drawn)
