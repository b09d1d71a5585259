"""`preceptor learn --inline` as a person runs it: stopped by Ctrl-C in the middle, gone on with, done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEACHER = f"tiny-teacher={ROOT / 'examples' / 'tiny' / 'teacher'}"
STUDENT = f"tiny={ROOT / 'examples' / 'tiny' / 'student'}"
ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PRECEPTOR_")},
    "PRECEPTOR_TEACHER_MODEL": TEACHER,
    "PRECEPTOR_ROLLOUT_MODEL": STUDENT,
    "PRECEPTOR_STUDENT_MODEL": STUDENT,
}

STEPS = 40  # a quick machine does nine of them before a signal after the first is heard


def learn(folder: Path, *words: str) -> subprocess.Popen[str]:
    recipe = ROOT / "recipes" / "tiny-reverse-kl.yaml"
    sizes = (f"schedule.steps={STEPS}", "schedule.prompts_per_step=4", f"evaluation.every_steps={STEPS}", "evaluation.prompts=4")
    options = (*sizes, "--run", "mine", "--inline")
    command = [sys.executable, "-m", "preceptor", "learn", str(recipe), *options, *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,  # noqa: PLW1509 - no threads here
    )


def _hear_interrupts() -> None:
    """A shell's background job ignores SIGINT, and so would everything that is started from it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop_after_a_step(process: subprocess.Popen[str], how: signal.Signals) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "step":
            break
    process.send_signal(how)


def final_weights(folder: Path) -> bytes:
    (version,) = (folder / "runs" / "mine" / "versions").glob(f"step-{STEPS}-*")
    return (version / "model.safetensors").read_bytes()


def steps(folder: Path) -> list[int]:
    lines = (folder / "runs" / "mine" / "events.jsonl").read_text().splitlines()
    return [event["step"] for event in map(json.loads, lines) if event["event"] == "step"]


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_ctrl_c_in_the_middle_then_resume(tmp_path: Path) -> None:
    first = learn(tmp_path)
    stop_after_a_step(first, signal.SIGINT)
    _, complaint = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "--run mine --resume" in complaint
    assert "Traceback" not in complaint
    stopped_after = steps(tmp_path)
    assert stopped_after[-1] < STEPS
    again = learn(tmp_path, "--resume")
    shown, complaint = again.communicate(timeout=180)
    assert again.returncode == 0, complaint
    assert steps(tmp_path) == list(range(1, STEPS + 1))
    assert json.loads(shown.splitlines()[0])["resumed"] is True
    summary = json.loads((tmp_path / "runs" / "mine" / "summary.json").read_text())
    assert set(summary["accuracies"]) == {"0", str(STEPS)}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_killed_as_a_whole_twice_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Learner, services and queue die at once; what is on disk is enough."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    undisturbed = learn(whole)
    undisturbed.communicate(timeout=180)
    for words in ((), ("--resume",)):
        process = learn(killed, *words)
        stop_after_a_step(process, signal.SIGKILL)
        process.communicate(timeout=60)
    last = learn(killed, "--resume")
    _, complaint = last.communicate(timeout=180)
    assert last.returncode == 0, complaint
    assert steps(killed) == list(range(1, STEPS + 1))
    assert final_weights(killed) == final_weights(whole)
