"""The list of ops in docs/objectives.md names every op of a recipe's terms, and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from preceptor.recipes.ops import OPS

LIST = Path("docs/objectives.md").read_text(encoding="utf-8").split("## By name")[1].split("\n## ")[0]


def test_every_op_stands_in_the_list() -> None:
    named = set(re.findall(r"`([a-z0-9_]+)`", LIST))
    assert OPS.keys() <= named, OPS.keys() - named


def test_every_test_of_the_list_is_there() -> None:
    named = set(re.findall(r"tests/[a-z0-9_/]+\.py", LIST))
    assert len(named) > 8
    assert all(Path(one).is_file() for one in named)
