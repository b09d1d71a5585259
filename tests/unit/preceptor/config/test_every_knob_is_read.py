"""A knob that nothing reads is a promise that nothing keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from preceptor.config.knobs import knobs_of
from preceptor.config.settings import SETTINGS

ROOT = Path(__file__).parents[4]
SHARED = ("clients/preceptor", "services/common/preceptor_serving")
OWN = {section: (f"services/{section}/preceptor_{section}",) for section in SETTINGS if section != "client"}


def code_of(section: str) -> str:
    """What runs in the process of a section: its own package, and what all of them share."""
    folders = (*SHARED, *OWN.get(section, ()))
    files = (file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")) if "config" not in file.parts)
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("section", SETTINGS)
def test_every_knob_of_a_process_is_read_by_it(section: str) -> None:
    read = set(re.findall(r"settings\.(\w+)", code_of(section)))
    assert set(knobs_of(SETTINGS[section])) - read == set()
