"""Every ```python and ```bash block of README and docs runs, unless a comment above it says why not.

Blocks of one page run in order in one process for each language, so that a page can tell a story. A block is left out by
`<!-- no-test: reason -->` on the line above its fence.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
EXCUSE = re.compile(r"<!-- no-test: (.+?) -->\s*\Z")
RUNNERS = {"python": [sys.executable, "-"], "bash": ["bash", "-euo", "pipefail", "-s"]}
TIMEOUT_S = 110


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    text: str
    excuse: str


def blocks_of(page: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(page):
        excuse = EXCUSE.search(page[: match.start()])
        line = page.count("\n", 0, match.start()) + 1
        found.append(Block(match.group(1), line, match.group(2), excuse.group(1) if excuse else ""))
    return found


def script_of(page: str, language: str) -> str:
    """The page's blocks at their own line numbers, so that a traceback points into the page."""
    lines: list[str] = []
    for block in blocks_of(page):
        if block.language == language and not block.excuse:
            lines += [""] * (block.line - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


def run_script(language: str, script: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PRECEPTOR_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")])
    environment = {**clean, "PATH": path, "PYTHONWARNINGS": "error::DeprecationWarning:__main__"}
    return subprocess.run(
        RUNNERS[language], input=script, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=ROOT, env=environment, check=False
    )


SCRIPTS = [
    pytest.param(language, script, id=f"{page.relative_to(ROOT)}-{language}")
    for page in PAGES
    for language in RUNNERS
    if (script := script_of(page.read_text(encoding="utf-8"), language))
]


@pytest.mark.parametrize(("language", "script"), SCRIPTS)
def test_the_blocks_of_a_page_run(language: str, script: str) -> None:
    done = run_script(language, script)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_the_pages_that_must_be_run_are_found() -> None:
    assert {"README.md-bash", "docs/configuration.md-python", "docs/errors.md-python"} <= {one.id for one in SCRIPTS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))  # code that looks like a link is none
    targets = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_a_failing_block_fails() -> None:
    page = "# t\n\n```python\nx = 1\n```\ntext\n```python\nassert x == 2\n```\n```bash\nfalse\ntrue\n```\n"
    python = run_script("python", script_of(page, "python"))
    assert python.returncode == 1
    assert "line 8" in python.stderr
    assert run_script("bash", script_of(page, "bash")).returncode == 1


def test_only_a_stated_reason_excuses_a_block() -> None:
    page = "<!-- no-test: takes an hour -->\n```bash\nfalse\n```\n\nwords\n```bash\ntrue\n```\n"
    assert [block.excuse for block in blocks_of(page)] == ["takes an hour", ""]
    assert run_script("bash", script_of(page, "bash")).returncode == 0
