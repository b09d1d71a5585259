"""`preceptor recipes`: which methods there are, what one of them does, and whether a file of one's own can learn."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from preceptor.cli.options import Json
from preceptor.cli.output import print_json, print_table, say
from preceptor.errors import NotFound, PreceptorError
from preceptor.recipes import CompiledRecipe, Recipe, compile_recipe, findings_of, load_recipe, recipe_json_schema
from preceptor.suggest import did_you_mean

FOLDER = Path("recipes")
SUFFIX = ".yaml"
COLUMNS = ("recipe", "tier", "summary")
FOUND = ("", "code", "field", "what", "way out")
NO_TIER = "-"

Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the recipes lie.")]
Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A file, or the name of one in the folder.")]
RolloutEngine = Annotated[
    str | None,
    typer.Option("--rollout-engine", metavar="ENGINE", help="Also find what this engine of the rollout service cannot draw."),
]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides.")]


def list_recipes(folder: Folder = FOLDER, as_json: Json = False) -> None:
    """Every recipe of the folder by its file's name. One that cannot be read says why in place of its summary."""
    rows = [_row(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    if not rows:
        raise NotFound(f"{folder} holds no recipes", field="folder", value=str(folder), hint="name another one with --folder")
    if as_json:
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    else:
        print_table(COLUMNS, rows)


def show(name: Name, overrides: Overrides = None, folder: Folder = FOLDER, as_json: Json = False) -> None:
    """The source and the tier of a recipe, what it differs in, and the work that it compiles to."""
    path = find(name, folder)
    compiled = compile_recipe(load_recipe(path, overrides or ()))
    if as_json:
        print_json(_plans(compiled))
        return
    for line in _lines(path, compiled):
        say(line)


def lint(
    name: Name,
    overrides: Overrides = None,
    folder: Folder = FOLDER,
    as_json: Json = False,
    rollout_engine: RolloutEngine = None,
) -> None:
    """Everything that is wrong at once, then what is biased on purpose. Ends with 2 where the recipe is refused."""
    recipe = load_recipe(find(name, folder), overrides or ())
    refused = findings_of(recipe, rollout_engine)
    warned = () if refused else compile_recipe(recipe).warnings
    rows = [
        (kind, one.code, one.field, one.sentence, one.hint)
        for kind, found in (("refused", refused), ("biased", warned))
        for one in found
    ]
    if as_json:
        print_json([dict(zip(("verdict", *FOUND[1:]), row, strict=True)) for row in rows])
    elif rows:
        print_table(FOUND, rows)
    else:
        say(f"{recipe.name}: nothing found")
    if refused:
        raise typer.Exit(2)


def schema() -> None:
    """Draft 2020-12. In an editor with YAML support: `# yaml-language-server: $schema=recipe.schema.json` as a first line."""
    print_json(recipe_json_schema())


def find(name: str, folder: Path) -> Path:
    """The file of that name, or the recipe of that name in the folder."""
    direct, within = Path(name), folder / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
    if direct.is_file():
        return direct
    if within.is_file():
        return within
    known = [path.stem for path in folder.glob(f"*{SUFFIX}")]
    hint = did_you_mean(name, known) if known else "name a file, or a folder with --folder"
    raise NotFound(f"there is no recipe {name!r}", field="recipe", value=name, hint=hint)


def _row(path: Path) -> tuple[str, str, str]:
    try:
        recipe = load_recipe(path)
    except PreceptorError as error:
        return path.stem, NO_TIER, f"cannot be read: {error}"
    return path.stem, recipe.about.tier if recipe.about else NO_TIER, recipe.summary


def _lines(path: Path, compiled: CompiledRecipe) -> list[str]:
    recipe = compiled.recipe
    terms = [f"  {one.name}: {one.objective.op} on {one.on}" + _reading(one.teacher) for one in compiled.objective.terms]
    asked = [f"  {one.name}: {one.model}, {_asked(compiled, one.name)}" for one in compiled.teachers.values()]
    warned = [f"  biased on purpose: {one.field}: {one.sentence} [{one.code}]" for one in compiled.warnings]
    return [f"{path}: {recipe.summary}", *_about(recipe), "terms", *terms, "teachers", *(asked or ["  none"]), *warned]


def _about(recipe: Recipe) -> list[str]:
    about = recipe.about
    if about is None:
        return []
    return [
        f"tier      {about.tier}",
        f"source    {about.source}",
        f"checked   {about.checked}",
        *(f"differs   {one}" for one in about.differs),
    ]


def _reading(teacher: str | None) -> str:
    return f", read from {teacher}" if teacher else ""


def _asked(compiled: CompiledRecipe, name: str) -> str:
    plan = compiled.teachers[name]
    asked = [one for one in ("scores" if plan.want else "", "grades" if plan.grading else "") if one]
    return " and ".join(asked) or "writes"


def _plans(compiled: CompiledRecipe) -> dict[str, Any]:
    """The recipe with every default, and the objective as the student service gets it."""
    teachers = {
        name: {"model": plan.model, "on": list(plan.on), "want": _want(plan.want), "grader": plan.grading and plan.grading.grader}
        for name, plan in compiled.teachers.items()
    }
    objective = cast(dict[str, Any], json.loads(compiled.objective.to_json()))
    sources = {name: asdict(plan) for name, plan in compiled.sources.items()}
    warnings = [{"code": one.code, "field": one.field, "what": one.sentence} for one in compiled.warnings]
    recipe = compiled.recipe.model_dump(mode="json")
    return {"recipe": recipe, "objective": objective, "sources": sources, "teachers": teachers, "warnings": warnings}


def _want(want: Any) -> dict[str, Any] | None:
    return None if want is None else {name: getattr(value, "name", value) for name, value in asdict(want).items()}
