"""Orders to kill in the middle of an episode: at that point, the hit counted from the order on, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from preceptor_rollout.episodes import POINTS
from tests.faults.rollout_process import Executioner, Order, done_of


def test_an_order_is_carried_out_once_at_its_hit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    path = tmp_path / "order.json"
    hooks, (other, point, _) = Executioner(path), POINTS
    hooks.reached(point)
    for pid in (11, 12):
        Order(point, 2, pid).write(path)
        for reached in (point, other, other):
            hooks.reached(reached)
            assert not done_of(path).exists()
        for _ in range(3):
            hooks.reached(point)
        assert killed[-1] == (pid, signal.SIGKILL)
        done_of(path).unlink()
    assert len(killed) == 2
    assert not path.exists()
