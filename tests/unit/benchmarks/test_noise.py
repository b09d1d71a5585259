"""N1: whatever way a score comes about, it is the same within noise, and to the bit in deterministic mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.noise import EXACT_NATS, MAX_NATS, P99_NATS
from benchmarks.scoring.deviations import deviations
from benchmarks.scoring.ways import GRADES, WAYS, Scene
from preceptor.types import Grade
from tests.support.models import random_llama, save


@pytest.fixture(scope="module", params=[(4, 4), pytest.param((12, 20), marks=pytest.mark.slow)], ids=["quick", "whole"])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder: Path = save(random_llama(1), tmp_path_factory.mktemp("models") / "llama")
    return Scene.of(folder, *request.param)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_a_score_gives_the_same_score(scene: Scene, way: str) -> None:
    found = WAYS[way](scene)
    assert found.count > 100
    assert found.largest <= (0.0 if way.endswith("deterministic") else MAX_NATS)
    assert found.p99 <= P99_NATS


def test_the_scores_are_those_of_the_whole_model_in_float64(scene: Scene) -> None:
    assert scene.against_float64().largest <= EXACT_NATS


@pytest.mark.parametrize("grade", GRADES)
def test_a_payload_stays_within_the_bound_of_its_receipt(scene: Scene, grade: Grade) -> None:
    found = scene.grade_over_bound(grade)
    assert 0.1 < found.largest <= 1.0  # the bound holds, and is one


def test_what_is_on_one_side_only_is_an_infinite_deviation() -> None:
    one, other = np.array([1.0, np.nan, -np.inf, -np.inf]), np.array([1.5, np.nan, -np.inf, -3.0])
    assert deviations("", [(one, other)]).values.tolist() == [0.5, 0.0, 0.0, np.inf]
    with pytest.raises(ValueError, match="against"):
        deviations("", [(one, other[:2])])
