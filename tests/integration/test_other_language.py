"""Somebody without Python reads our messages: a plain JavaScript reader must say what the golden vectors say."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "rows.json"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_a_javascript_reader_decodes_the_golden_messages() -> None:
    assert NODE is not None
    reader = TESTS / "other_language" / "decode_rows.mjs"
    done = subprocess.run([NODE, str(reader), str(GOLDEN)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [vector["decoded"] for vector in json.loads(GOLDEN.read_text(encoding="utf-8"))]
