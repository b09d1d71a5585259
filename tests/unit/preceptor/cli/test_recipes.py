"""`preceptor recipes`: what it lists, shows, refuses and hands to editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from preceptor.cli import run
from preceptor.recipes import load_recipe
from preceptor.recipes.strict_yaml import read_yaml

Out = pytest.CaptureFixture[str]
K1 = "recipes/tiny-k1.yaml"


def test_every_shipped_recipe_is_listed_with_its_tier(capsys: Out) -> None:
    assert run(["recipes", "list", "--json"]) == 0
    listed = {row["recipe"]: row for row in json.loads(capsys.readouterr().out)}
    assert listed.keys() == {path.stem for path in Path("recipes").glob("*.yaml")}
    for name, row in listed.items():
        recipe = load_recipe(Path(f"recipes/{name}.yaml"))
        assert row["summary"] == recipe.summary
        assert row["tier"] == (recipe.about.tier if recipe.about else "-")


def test_a_file_that_is_no_recipe_says_so_in_its_row(tmp_path: Path, capsys: Out) -> None:
    (tmp_path / "broken.yaml").write_text("version: 2\n")
    assert run(["recipes", "list", "--folder", str(tmp_path)]) == 0
    assert "broken\t-\tcannot be read: " in capsys.readouterr().out


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: Out) -> None:
    assert run(["recipes", "list", "--folder", str(tmp_path)]) == 2
    assert "holds no recipes" in capsys.readouterr().err


def test_a_recipe_is_shown_by_name_or_file_with_what_it_compiles_to(capsys: Out) -> None:
    shown = []
    for name in ("tiny-k1", "tiny-k1.yaml", K1):
        assert run(["recipes", "show", name, "terms.0.weight=0.5", "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1] == shown[2]
    assert shown[0]["recipe"]["terms"][0]["weight"] == 0.5
    assert shown[0]["objective"]["terms"][0]["weight"] == 0.5
    assert shown[0]["teachers"]["tutor"]["want"]["sampled"] is True


def test_a_recipe_is_shown_with_its_source_and_what_is_biased(tmp_path: Path, capsys: Out) -> None:
    text = Path(K1).read_text().replace("../examples", str(Path("examples").resolve()))
    text = text.replace(text[text.index("about:") : text.index("data:")], "")
    about = "about: {tier: sketch, source: a paper, checked: its abstract, differs: [it is smaller, it is faster]}\n"
    biased = text.replace("signal: sampled", "signal: {op: support, params: {teacher_topk: 4, tail: false}}")
    biased = biased.replace("objective: policy_gradient\n    advantage: k1", "objective: reverse_kl")
    (tmp_path / "mine.yaml").write_text(about + biased)
    assert run(["recipes", "show", "mine", "--folder", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for part in ("tier      sketch", "source    a paper", "differs   it is faster", "reverse_kl on rollouts, read from tutor"):
        assert part in shown
    assert "biased on purpose: terms[0]" in shown
    assert run(["recipes", "lint", "mine", "--folder", str(tmp_path), "--json"]) == 0
    assert [one["verdict"] for one in json.loads(capsys.readouterr().out)] == ["biased"]


def test_lint_says_everything_and_the_way_out_compiles(capsys: Out) -> None:
    assert run(["recipes", "lint", K1]) == 0
    assert capsys.readouterr().out == "tiny-k1: nothing found\n"
    assert run(["recipes", "lint", K1, "terms.0.advantage=null", "--json"]) == 2
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["code"], found["field"]) == ("refused", "no-advantage", "terms[0].advantage")
    assert run(["recipes", "lint", K1, "terms.0.advantage=null"]) == 2
    assert "no-advantage" in capsys.readouterr().out
    assert run(["learn", K1, "terms.0.advantage=null", "--estimate"]) == 2
    assert "[no-advantage]" in capsys.readouterr().err
    fix = found["way out"].partition("try ")[2].split()
    assert run(["recipes", "lint", K1, "terms.0.advantage=null", *fix]) == 0


def test_a_mistyped_name_gets_the_nearest_one(capsys: Out) -> None:
    assert run(["recipes", "show", "tiny-k2"]) == 2
    assert "did you mean 'tiny-k1'" in capsys.readouterr().err


def test_the_schema_takes_what_is_shipped_and_refuses_a_wrong_name(capsys: Out) -> None:
    assert run(["recipes", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    values = read_yaml(Path(K1))
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values | {"lerning": 1}, schema)


def test_lint_finds_what_the_named_engine_cannot_draw(capsys: Out) -> None:
    assert run(["recipes", "lint", "tiny-skd", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run(["recipes", "lint", "tiny-skd", "--rollout-engine", "vllm", "--json"]) == 2
    [found] = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["field"]) == ("refused", "sources.rollouts.policy")


@pytest.mark.parametrize("command", ["learn --inline", "doctor --plan"])
def test_a_run_on_an_engine_that_cannot_draw_it_is_refused_before_anything_is_started(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: Out
) -> None:
    monkeypatch.setenv("PRECEPTOR_ROLLOUT_ENGINE", "vllm")
    assert run([*command.split(), "recipes/tiny-skd.yaml"]) == 2
    assert "sources.rollouts.policy" in capsys.readouterr().err
