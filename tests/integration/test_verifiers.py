"""Environments of the `verifiers` library, in an environment of its own: `make test-verifiers`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.loss.environments import interpreter_of

ROOT = Path(__file__).parents[2]
HOME = Path(".venv-verifiers")
PINNED = ("verifiers==0.2.1", "--editable", ".")


@pytest.mark.verifiers
@pytest.mark.timeout(1800)  # the environment is made once
def test_an_environment_says_and_gives_what_it_does_in_its_own_library(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    side = Path(__file__).with_name("verifiers_side.py")
    subprocess.run([str(interpreter_of(HOME, PINNED)), str(side), str(found)], check=True, cwd=ROOT)
    told = json.loads(found.read_text())
    for name, (theirs, ours) in told["cases"].items():
        assert ours == theirs, name
    rewards = {name: ours["reward"] for name, (_, ours) in told["cases"].items()}
    assert rewards["one turn"] == 1.0 > rewards["one wrong turn"] == 0.0
    assert rewards["right at last"] > rewards["right at once"] > 1.0 > rewards["no more turns"]
    assert [len(ours["said"]) for _, ours in told["cases"].values()] == [2, 0, 3, 1, 0, 0]
    assert told["two"] == ["larger, odd, 1", "smaller, odd, 1", "larger, odd, 2"]
    assert "scores rollouts together" in told["refused"]["grouped"]
    assert "only grows" in told["refused"]["rewriting"]
    assert told["refused"]["crash"] == "Error: the world ended"
    assert told["loaded"] == 0.0
