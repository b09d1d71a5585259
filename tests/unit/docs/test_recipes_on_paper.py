"""The recipes of docs/recipes-on-paper.md load, compile, and fit the schema that editors get."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import pytest

from preceptor.recipes import compile_recipe, objective_from_json, recipe_from, recipe_json_schema
from preceptor.recipes.strict_yaml import parse_yaml

PAGE = (Path(__file__).parents[3] / "docs" / "recipes-on-paper.md").read_text(encoding="utf-8")
SECTIONS = {
    title.split(",")[0]: text for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
FENCE = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START = parse_yaml(FENCE.findall(PAGE.split("\n## ")[0])[0], "the first block")
BLOCKS = {title: FENCE.findall(text) for title, text in SECTIONS.items() if FENCE.search(text)}


def test_there_are_twelve_methods_with_one_block_each():
    assert len(BLOCKS) == 12
    assert all(len(found) == 1 for found in BLOCKS.values())


@pytest.mark.parametrize("title", BLOCKS)
def test_a_recipe_on_paper_compiles(title):
    values = START | parse_yaml(BLOCKS[title][0], title)
    jsonschema.validate(values, recipe_json_schema())
    made = compile_recipe(recipe_from(values))
    assert objective_from_json(1, made.objective.to_json()) == made.objective
