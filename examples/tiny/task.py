"""The task of the bundled pair: three-digit addition, worked column by column.

A prompt is `478+356`. The right response works from the ones to the hundreds, each column as
`digit+digit+carry=sum` with two places, and ends with the answer:

    8+6+0=14 7+5+1=13 4+3+1=08 834

Easy sums carry at most once; hard sums carry at least twice, so a carry runs into a column that
carries too. The student has only ever seen easy sums. This module needs nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "distil", "heldout"]
Level = Literal["easy", "hard"]

DIGITS = 3
SPLIT_KEY = b"preceptor-tiny-1"
TRAIN_PERCENT, DISTIL_PERCENT = 80, 10
DATA_SEED = 20
DISTIL_ITEMS, HELDOUT_ITEMS = 4096, 512
DATA_DIR = Path(__file__).parent / "data"

_ANSWER = re.compile(r"(?:^|\s)(\d+)$")


@dataclass(frozen=True, slots=True)
class Problem:
    """One sum of two three-digit numbers."""

    a: int
    b: int

    @property
    def prompt(self) -> str:
        return f"{self.a}+{self.b}"

    @property
    def answer(self) -> str:
        return str(self.a + self.b)

    @property
    def columns(self) -> list[tuple[int, int, int]]:
        """(digit of a, digit of b, carry in) from the ones upwards."""
        carry, columns = 0, []
        for place in range(DIGITS):
            x, y = self.a // 10**place % 10, self.b // 10**place % 10
            columns.append((x, y, carry))
            carry = (x + y + carry) // 10
        return columns

    @property
    def carries(self) -> int:
        return sum(x + y + carry >= 10 for x, y, carry in self.columns)

    @property
    def level(self) -> Level:
        return "easy" if self.carries <= 1 else "hard"

    @property
    def split(self) -> Split:
        """Where this sum belongs, by a keyed hash: 478+356 and 356+478 are the same item, so neither leaks into another split."""
        low, high = sorted((self.a, self.b))
        digest = hashlib.blake2b(f"{low}+{high}".encode(), key=SPLIT_KEY, digest_size=8).digest()
        percent = int.from_bytes(digest, "little") % 100
        if percent < TRAIN_PERCENT:
            return "train"
        return "distil" if percent < TRAIN_PERCENT + DISTIL_PERCENT else "heldout"

    @property
    def worked(self) -> str:
        """The right response."""
        steps = [f"{x}+{y}+{carry}={x + y + carry:02d}" for x, y, carry in self.columns]
        return " ".join([*steps, self.answer])


def parse(prompt: str) -> Problem:
    """The problem that a prompt states."""
    a, b = prompt.split("+")
    return Problem(int(a), int(b))


def final_answer(response: str) -> str | None:
    """The number a response ends with, or None when it ends with anything else."""
    found = _ANSWER.search(response.strip())
    return found[1] if found else None


def is_correct(response: str, answer: str) -> bool:
    """True when the response ends with exactly this answer."""
    return final_answer(response) == answer


def problems(split: Split, seed: int, *, level: Level | None = None) -> Iterator[Problem]:
    """An endless seeded stream of problems of one split, with repeats; of one level if named."""
    draw, low, high = random.Random(f"{split}/{level}/{seed}"), 10 ** (DIGITS - 1), 10**DIGITS - 1
    while True:
        problem = Problem(draw.randint(low, high), draw.randint(low, high))
        if problem.split == split and level in (None, problem.level):
            yield problem


def unique(stream: Iterator[Problem], count: int) -> list[Problem]:
    """The first `count` different problems of a stream, in its order."""
    seen: dict[Problem, None] = {}
    while len(seen) < count:
        seen.setdefault(next(stream))
    return list(seen)


def load(split: Literal["distil", "heldout"]) -> list[Problem]:
    """The committed hard problems of one split, in file order."""
    lines = (DATA_DIR / f"{split}.jsonl").read_text().splitlines()
    return [parse(json.loads(line)["prompt"]) for line in lines]


def data_lines(split: Literal["distil", "heldout"]) -> str:
    """The text of `data/{split}.jsonl`: hard problems as prompt and answer."""
    count = DISTIL_ITEMS if split == "distil" else HELDOUT_ITEMS
    items = unique(problems(split, DATA_SEED, level="hard"), count)
    return "".join(json.dumps({"prompt": item.prompt, "answer": item.answer}) + "\n" for item in items)


if __name__ == "__main__":
    DATA_DIR.mkdir(exist_ok=True)
    for name in ("distil", "heldout"):
        (DATA_DIR / f"{name}.jsonl").write_text(data_lines(name))
