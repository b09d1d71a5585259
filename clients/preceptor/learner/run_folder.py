"""`runs/<run>/`: the journal, events, the recipe as it was checked, options, and a summary at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from preceptor.errors import Conflict
from preceptor.learner.plan import RunPlan
from preceptor.limits import check_name
from preceptor.recipes import Recipe, recipe_from

DEFAULT_ROOT = Path("runs")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def of(cls, root: Path, run: str) -> RunFolder:
        """Names of runs are names everywhere: in keys, in folders, at services."""
        return cls(root / check_name(run, "run"))

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def options(self) -> Path:
        return self.path / "options.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    def prepare(self, plan: RunPlan, *, resume: bool) -> bool:
        """Made for this plan, or checked to be of this plan; true when there is something to go on with.

        Without `resume` a folder that exists is refused, so that nobody mixes two runs by accident.
        """
        recipe, options = _text_of(plan.compiled.recipe), {"control": plan.control, "tenant": plan.tenant}
        if self.recipe.exists():
            if not resume:
                raise Conflict(
                    f"run {plan.run} exists already",
                    field="run",
                    value=plan.run,
                    hint="go on with --resume, or choose another name with --run",
                )
            self._check(recipe, options)
            return True
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.options, json.dumps(options, indent=2) + "\n")
        _write(self.recipe, recipe)  # last: its presence says that the folder is complete
        return False

    def told(self) -> list[dict[str, Any]]:
        """Every event of the run so far, the oldest first; half a line at the end, from a kill, is left out."""
        if not self.events.exists():
            return []
        whole, _, _ = self.events.read_text(encoding="utf-8").rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """What came out, whole or not at all."""
        _write(self.summary, json.dumps(summary, indent=2) + "\n")

    def _check(self, recipe: str, options: Mapping[str, str]) -> None:
        if known := json.loads(self.options.read_text(encoding="utf-8")) if self.options.exists() else options:
            _refuse_change("options", cast(dict[str, Any], known), options)
        before: Any = yaml.safe_load(self.recipe.read_text(encoding="utf-8"))
        # Fields that a later version has added stand at their defaults, which are what the run was started with.
        _refuse_change("recipe", recipe_from(before).model_dump(mode="json"), yaml.safe_load(recipe))


def with_whole_paths(recipe: Recipe) -> Recipe:
    """The recipe with paths that mean the same from any folder."""
    data = recipe.data.model_copy(update={"path": str(Path(recipe.data.path).resolve())})
    asked = recipe.evaluation
    if asked is not None:
        asked = asked.model_copy(update={"path": str(Path(asked.path).resolve())})
    return recipe.model_copy(update={"data": data, "evaluation": asked})


def _text_of(recipe: Recipe) -> str:
    return yaml.safe_dump(with_whole_paths(recipe).model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def _refuse_change(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise Conflict(
            f"the {what} of this run changed since it was started: {', '.join(changed)}",
            field=f"{what}.{changed[0]}",
            value=now.get(changed[0]),
            limit=before.get(changed[0]),
            hint="go on with what it was started with, or take another run name",
        )
