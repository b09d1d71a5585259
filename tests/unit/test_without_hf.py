"""The copy in which the demos are run on vLLM alone: nothing in it needs what was taken out."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.without_hf import CODE, OVER_TRANSFORMERS, copy_without_hf, environment


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_without_hf(tmp_path_factory.mktemp("without-hf"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{name.name}" for name in node.names))


def test_no_file_that_is_left_imports_one_that_is_gone(place: Path) -> None:
    gone = {".".join(Path(name).with_suffix("").parts[2:]) for name in OVER_TRANSFORMERS}
    assert "preceptor_rollout.engine" in gone
    files = [file for part in CODE for file in (place / part).rglob("*.py")]
    assert len(files) > 200
    assert not [
        (file, name) for file in files for name in imported(file) if any(f"{name}.".startswith(f"{one}.") for one in gone)
    ]


def test_a_process_of_the_copy_has_the_other_engines_and_no_hf(place: Path) -> None:
    ask = (
        "import importlib.util, json; from preceptor_serving.engines.registry import ENGINES;"
        "print(json.dumps([sorted(ENGINES), importlib.util.find_spec('preceptor_teacher.engines.hf') is None]))"
    )
    said = subprocess.run(
        [sys.executable, "-c", ask], cwd=place, env=environment(place), check=True, stdout=subprocess.PIPE, timeout=60
    )
    engines, gone = json.loads(said.stdout)
    assert gone
    assert {"vllm", "rollout-vllm", "student"} <= set(engines)
    assert not {"hf", "rollout-hf"} & set(engines)
