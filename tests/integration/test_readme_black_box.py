"""What README says of a teacher behind an API is all that a newcomer needs: its two blocks run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from preceptor.local.ports import free_ports
from tests.support.models import BUNDLED_TEACHER
from tests.unit.docs.test_docs_blocks import ROOT, blocks_of

HEADING = "## A teacher behind an API, without a key"
PATIENCE_S = 50.0


@pytest.mark.slow
@pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
def test_a_newcomer_tries_a_black_box_teacher_from_the_readme_alone(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    serve, learn = (block.text.replace("9000", str(port)) for block in blocks_of(section) if block.language == "bash")
    for name in ("recipes", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PRECEPTOR_")}
    environ = {**clean, "PATH": os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")])}
    server = subprocess.Popen(["bash", "-c", f"exec {serve.strip()}"], cwd=tmp_path, env=environ)
    try:
        until_ready(f"http://127.0.0.1:{port}/readyz", server)
        command = ["bash", "-euo", "pipefail", "-c", learn]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    finally:
        server.kill()
        server.wait()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "calls of tiny-judge" in done.stdout
    assert list((tmp_path / "runs").glob("*/summary.json"))


def until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and server.poll() is None:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise AssertionError("the stand-in did not get ready")
