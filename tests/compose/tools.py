"""Commands with a deadline, and the one line that each finished step prints."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TAIL_CHARS = 3000


class Failed(Exception):
    """A step did not do what it should; the text says what was seen."""


class Skipped(Exception):
    """This machine cannot run the story; the text says why and what would change that."""


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    output: str


def attempt(
    command: Sequence[str | Path], *, timeout_s: float = 60.0, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Ran:
    """What a command printed (both streams) and its exit code; 124 where it outlasted `timeout_s`."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env=env,
            cwd=cwd,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return Ran(124, (error.output or b"").decode(errors="replace") + f"\nnot over after {timeout_s} s")
    except FileNotFoundError as error:
        return Ran(127, str(error))
    return Ran(done.returncode, done.stdout.decode(errors="replace"))


def insist(
    command: Sequence[str | Path], *, timeout_s: float = 60.0, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    """What the command printed; `Failed` with its last lines where it did not end with 0."""
    ran = attempt(command, timeout_s=timeout_s, env=env, cwd=cwd)
    if ran.code:
        raise Failed(f"{' '.join(map(str, command))}: exit code {ran.code}\n{ran.output[-TAIL_CHARS:]}")
    return ran.output


@dataclass
class Steps:
    """Tells what has been shown, with the seconds since the start."""

    began: float = field(default_factory=time.monotonic)

    def ok(self, what: str) -> None:
        print(f"ok    {time.monotonic() - self.began:5.0f} s  {what}", flush=True)
