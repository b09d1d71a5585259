"""Codes of findings: stable, one idea each, on the page."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from preceptor.recipes import rules
from preceptor.recipes.rules.codes import MEANINGS, Code, codes_table
from scripts.write_docs import BEGIN_CODES, END_CODES, RECIPES, page_with

FOLDER = Path(rules.__file__).parent
SAME = {"UNKNOWN_SOURCE": 2}
"""Found in several places, with one meaning."""

PUBLISHED = [
    "advantage-unused",
    "always-fresh",
    "answers-untold",
    "baseline-sees-draw",
    "clamped",
    "columns-of-teacher",
    "copy-agrees",
    "copy-head-changes",
    "copy-only-scores",
    "copy-unpublished",
    "engine-asks-no-teacher",
    "engine-takes-no-turns",
    "environment-gives-rewards",
    "environment-has-no-teacher",
    "evaluation-source-idle",
    "feedback-not-judged",
    "feedback-not-shown",
    "feedback-without-siblings",
    "gradient-on-teacher-text",
    "group-of-one",
    "horizon-too-long",
    "judge-needs-group",
    "name-reserved",
    "nobody-teaches",
    "normaliser-unfit",
    "no-advantage",
    "no-answers",
    "no-environment",
    "no-pairs",
    "no-steps",
    "no-tail",
    "no-topk-of-student",
    "no-weights-before",
    "pairs-unused",
    "pair-of-one-writer",
    "parameters-idle",
    "policy-asks-nobody",
    "policy-of-other-writer",
    "policy-without-teacher",
    "rate-zero",
    "renormalised",
    "signal-missing",
    "signal-unreadable",
    "slot-signal-missing",
    "slot-signal-unreadable",
    "slot-teacher-unread",
    "source-unread",
    "steps-unset",
    "stops-no-gradient",
    "teacher-unasked",
    "teacher-unread",
    "term-name-taken",
    "transform-of-nothing",
    "two-wants",
    "unbiased-on-teacher-text",
    "unbiased-stale",
    "unbiased-without-tail",
    "unbiased-without-tail-draw",
    "unknown-source",
    "unknown-teacher",
    "unknown-writer",
    "weights-on-pairs",
    "weight-zero",
]
"""What was ever released. None goes, and none is renamed: somebody may look for it."""


def sites() -> Counter[str]:
    """How many findings are made with each code, and nothing else."""
    found = Counter[str]()
    for path in (*FOLDER.glob("*.py"), FOLDER.parent / "biased.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                code = node.args[0]
                assert isinstance(code, ast.Attribute), ast.unparse(node)
                found[code.attr] += 1
    return found


def test_every_finding_has_a_code_of_its_own_and_every_code_is_found() -> None:
    assert sites() == Counter({code.name: SAME.get(code.name, 1) for code in Code})


def test_no_code_that_was_released_is_gone() -> None:
    assert set(PUBLISHED) <= {code.value for code in Code}
    assert len(PUBLISHED) == len(set(PUBLISHED))


def test_each_code_has_a_meaning_of_its_own_and_the_page_has_them_all() -> None:
    assert MEANINGS.keys() == set(Code)
    assert len(set(MEANINGS.values())) == len(MEANINGS)
    page = RECIPES.read_text(encoding="utf-8")
    assert page_with(codes_table(), page, BEGIN_CODES, END_CODES) == page, "run make docs"
