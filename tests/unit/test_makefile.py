"""The commands that the documents name exist, and explain themselves, wherever the checkout lies."""

import re
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^\.PHONY: ([a-z-]+)$", MAKEFILE, re.MULTILINE))


def make(folder: Path, *arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a path with spaces"
    (folder / "constraints").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints/dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def stamp(folder: Path) -> Path:
    """The stamp that `make install` would make for this checkout."""
    name = re.search(r"touch (\S+)", make(folder, "--dry-run", "install"))
    assert name
    return folder / name.group(1)


def test_help_lists_every_target(checkout: Path) -> None:
    listed = re.findall(r"^  ([a-z-]+) +\S", make(checkout, "help"), re.MULTILINE)
    assert set(listed) == TARGETS
    assert make(checkout) == make(checkout, "help")


def test_install_is_done_once_for_the_same_wishes(checkout: Path) -> None:
    first = stamp(checkout)
    first.parent.mkdir()
    first.touch()
    assert "Nothing to be done" in make(checkout, "install")
    with (checkout / "constraints" / "dev.txt").open("a") as file:
        file.write("# changed\n")
    assert stamp(checkout) != first


def test_an_environment_without_pip_is_completed(checkout: Path) -> None:
    """What an interrupted install leaves: a python that runs, and no pip."""
    venv.create(checkout / ".venv", with_pip=False)
    said = subprocess.run(
        ["make", "install", "PYTHON=false"], cwd=checkout, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.returncode
    assert "No module named pip" not in said.stderr, "the wrong python was asked: the one without pip"


def test_pip_arguments_reach_pip(checkout: Path) -> None:
    assert "constraints/dev.txt --no-cache-dir" in make(checkout, "--dry-run", "install", "PIP_ARGS=--no-cache-dir")


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", ".ci/run"])
def test_documents_name_targets_that_exist(page: str) -> None:
    named = set(re.findall(r"(?:^|[`\s])make ([a-z][a-z-]*)\b", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= TARGETS
