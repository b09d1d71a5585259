"""The first steps of every shipped recipe, through all services in this process and in a loop of one process (bar N3).

    python -m tests.support.first_steps [RECIPE ...]

prints for each how far the two are apart. To ship a recipe: its row in `LOOPS`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

from examples.tiny import task
from examples.tiny.decode import MODEL_DIRS, load_model
from examples.tiny.tokenizer import prompt_ids
from examples.tiny.try_opd import batches
from preceptor.config.settings import ClientSettings
from preceptor.learner import Learner, RunFolder, RunPlan
from preceptor.learner.inline import in_this_process
from preceptor.recipes import CompiledRecipe, compile_recipe, load_recipe
from preceptor_teacher.testing import standing_in
from tests.reference import guided, self_loop
from tests.reference import recipe_losses as losses
from tests.reference.opd_loop import Guided, Objective, Rollouts, Settings, distil, k1_policy_gradient

ROOT = Path(__file__).parents[2]
STEPS, PROMPTS = 3, 4
OVERRIDES = (
    f"schedule.steps={STEPS}",
    f"schedule.prompts_per_step={PROMPTS}",
    "schedule.checkpoint_every_steps=2",
    "evaluation=null",
)
CHANGED: dict[str, tuple[str, ...]] = {
    "grpo": ("schedule.prompts_per_step=8",),  # as shipped; of fewer groups none is mixed in some step
    "opsdc": ("teachers.self.student_copy.every_steps=2",),  # so that three steps see a second copy
    "sdpo-critique": ("sources.rollouts.samples_per_prompt=3",),
    "sdpo": ("sources.rollouts.samples_per_prompt=3", "optimizer.learning_rate.start=3.0e-5"),  # groups stay mixed
}
"""What else is not as shipped, and why."""

Metrics = Iterator[dict[str, float]]


@dataclass
class Scene:
    """What a reference loop is made of: a recipe's numbers and fresh models."""

    compiled: CompiledRecipe
    base_folder: Path
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        torch.set_num_threads(1)
        self.student: Any = load_model("student").to(self.dtype)  # pyright: ignore[reportArgumentType]
        self.problems = task.load("distil")
        self.prompts = self.compiled.recipe.schedule.prompts_per_step

    @cached_property
    def teacher(self) -> Any:
        return cast(Any, load_model("teacher").requires_grad_(False)).to(self.dtype)

    @cached_property
    def base(self) -> Any:
        model = load_model("student").requires_grad_(False)
        model.load_state_dict(load_file(self.base_folder / "model.safetensors"), strict=False)
        return cast(Any, model).to(self.dtype)

    @property
    def settings(self) -> Settings:
        recipe = self.compiled.recipe
        (source, *_), rate = recipe.sources.values(), cast(Any, recipe.optimizer.learning_rate)
        return Settings(
            samples_per_prompt=source.samples_per_prompt,
            learning_rate=rate.start,
            decay_steps=rate.steps,
            teacher_writes=source.writer != "student",
        )

    def distil(self, objective: Objective, draws: Guided | None = None) -> Metrics:
        return distil(self.student, self.teacher, batches(self.problems, self.prompts), objective, self.settings, draws)

    def two_sources(self) -> Metrics:
        both, settings = losses.TwoSources(self.student, self.teacher), self.settings
        prompts = batches(self.problems, self.prompts)
        own = Settings(learning_rate=settings.learning_rate, decay_steps=settings.decay_steps)
        return distil(self.student, self.teacher, prompts, both.loss, own, both.draw)

    def by_itself(
        self, objective: Objective, renew: self_loop.Renew, skip: int = 0, reread: self_loop.Reread | None = None
    ) -> Metrics:
        view = self.compiled.teachers["self"].view or ""
        shown = {} if reread else self.views(view)
        prompts = batches(self.problems, self.prompts)
        return self_loop.distil_self(self.student, prompts, shown, objective, renew, self.settings, skip, reread)

    def views(self, view: str) -> dict[int, list[int]]:
        first = enumerate(self.problems[: STEPS * self.prompts])
        return {at: prompt_ids(view.format(prompt=one.prompt, answer=one.answer)) for at, one in first}

    def right_siblings(self, rollouts: Rollouts) -> list[list[int] | None]:
        """The first other right response of the group behind the question, by the definition; nothing where there is none."""
        prompts = rollouts.prompts_B.tolist()
        texts = losses.texts(rollouts)
        right = [text.split()[-1:] == [self.problems[at].answer] for text, at in zip(texts, prompts, strict=True)]
        shown: list[list[int] | None] = []
        for place, prompt in enumerate(prompts):
            siblings = (other for other, group in enumerate(prompts) if group == prompt and other != place and right[other])
            found = next(siblings, None)
            shown.append(None if found is None else prompt_ids(f"{self.problems[prompt].prompt}={texts[found]}"))
        assert {one is None for one in shown} == {True, False}, "some are taught, and some have no sibling"
        return shown

    def criticised(self, rollouts: Rollouts) -> list[list[int] | None]:
        """The first wrong word of each response behind the question; nothing where the worked answer has no other words."""
        shown: list[list[int] | None] = []
        for text, at in zip(losses.texts(rollouts), rollouts.prompts_B.tolist(), strict=True):
            wanted, found = self.worked[at].split(), text.split()
            wrong = next((n for n, word in enumerate(wanted) if found[n : n + 1] != [word]), None)
            said = None if wrong is None else f"Word {wrong + 1} should be {wanted[wrong]}."
            shown.append(prompt_ids(f"{self.problems[at].prompt}={said}") if said else None)
        assert {one is None for one in shown} == {True, False}, "some are right, and nobody criticises them"
        return shown

    def clipped(self, reward: losses.Reward, offset: float | None) -> Metrics:
        """PPO's clip on rollouts of the weights before every second step."""
        objective = losses.within_a_fifth(reward, offset)
        whole = objective if offset is None else losses.each_sequence_alike(objective)
        return self.distil(whole, losses.Older.of(self.student, 2))

    def clipped_by(self, advantage: losses.Advantage) -> Metrics:
        """The same, each sequence alike, by an advantage of each row."""
        objective = losses.each_sequence_alike(losses.clipped_by(advantage))
        return self.distil(objective, losses.Older.of(self.student, 2))

    @property
    def answers(self) -> list[str]:
        return [one.answer for one in self.problems]

    @property
    def worked(self) -> list[str]:
        return [one.worked for one in self.problems]


REVERSE, FORWARD = losses.on_support(losses.reverse), losses.on_support(losses.forward)
ANSWERING, MEAN = losses.each_sequence_alike(REVERSE), self_loop.mean(0.95)

LOOPS: dict[str, Callable[[Scene], Metrics]] = {
    "confidence-router": lambda scene: scene.distil(losses.where_sure(scene.base)),
    "distillm": lambda scene: scene.distil(losses.on_support(losses.skewed)),
    "eopd": lambda scene: scene.distil(losses.covering_where_undecided),
    "exopd": lambda scene: scene.distil(losses.beyond(scene.base)),
    "gkd": lambda scene: scene.two_sources(),
    "grpo": lambda scene: scene.clipped(losses.ends_with(scene.answers), 1e-4),
    "lightning": lambda scene: scene.distil(losses.clipped, losses.Older.of(scene.student, 60)),
    "minillm": lambda scene: scene.distil(losses.with_later_rows),
    "nitrobrew": lambda scene: scene.distil(losses.of_every_token),
    "off-policy-kd": lambda scene: scene.distil(losses.on_support(losses.forward, 16, student_top=False)),
    "opcd": lambda scene: scene.by_itself(ANSWERING, self_loop.frozen),
    "opsd": lambda scene: scene.by_itself(losses.on_support(losses.jsd), self_loop.frozen),
    "opsdc": lambda scene: scene.by_itself(REVERSE, self_loop.lagged(2)),
    "ovd": lambda scene: scene.clipped(losses.steps_in_place(scene.worked), 1e-4),
    "ovd-steps": lambda scene: scene.clipped_by(losses.each_step_beside_the_whole(scene.worked)),
    "prefix-opd": lambda scene: scene.distil(losses.of_the_prefix),
    "ropd": lambda scene: scene.clipped(losses.criteria_met(scene.worked), None),
    "rubric-kl": lambda scene: scene.distil(losses.graded_and_taught(losses.criteria_met(scene.worked))),
    "sdft": lambda scene: scene.by_itself(REVERSE, MEAN, skip=1),
    "sdpo": lambda scene: scene.by_itself(REVERSE, MEAN, reread=scene.right_siblings),
    "sdpo-critique": lambda scene: scene.by_itself(REVERSE, MEAN, reread=scene.criticised),
    "tiny-forward-kl": lambda scene: scene.distil(FORWARD),
    "tiny-k1": lambda scene: scene.distil(k1_policy_gradient),
    "tiny-reverse-kl": lambda scene: scene.distil(REVERSE),
    "tiny-sft": lambda scene: scene.distil(losses.log_likelihood),
    "tiny-skd": lambda scene: scene.distil(FORWARD, partial(guided.generate, guided.speculative)),
    "tiny-trust-region": lambda scene: scene.distil(REVERSE, partial(guided.generate, guided.trust_region)),
    "tiny-verbal": lambda scene: scene.distil(losses.graded(losses.steps_in_place(scene.worked), 1.0)),
    "tip": lambda scene: scene.distil(losses.half_that_matters),
    "vopd": lambda scene: scene.distil(losses.with_baseline),
}
"""Recipe -> its steps in one process."""


@dataclass(frozen=True, slots=True)
class Apart:
    """The largest difference over the first steps: of the loss, of the gradient norm (relative), of any weight after them."""

    loss: float
    grad_norms: tuple[float, ...]  # of each step
    weights: float
    moved: float  # the largest change of a weight, against which the last is to be read
    losses: tuple[float, ...]

    def row(self, recipe: str) -> str:
        return f"| `{recipe}` | {self.loss:.1e} | {max(self.grad_norms):.1e} | {self.weights:.1e} |"


def apart(recipe: str, root: Path) -> Apart:
    """Runs both; `root` is an empty folder."""
    compiled, base = compiled_of(recipe), write_base(root / "base")
    folder = asyncio.run(through_services(compiled, root, base))
    ours = steps_of(folder)
    scene = Scene(compiled, base)
    theirs = list(islice(LOOPS[recipe](scene), STEPS))
    published, start = load_file(newest_version(folder)), load_model("student").state_dict()
    weights = scene.student.state_dict()
    return Apart(
        max(abs(one["loss"] - two["loss"]) for one, two in zip(ours, theirs, strict=True)),
        tuple(relative(one["grad_norm"], two["grad_norm"]) for one, two in zip(ours, theirs, strict=True)),
        max(float((value - weights[name]).abs().max()) for name, value in published.items()),
        max(float((value - start[name]).abs().max()) for name, value in published.items()),
        tuple(one["loss"] for one in ours),
    )


def rounding(recipe: str, root: Path) -> tuple[float, ...]:
    """How far the loop's gradient norm in f32 is from its own in float64, step by step, after `apart` in the same folder."""
    compiled = compiled_of(recipe)
    single, double = (
        list(islice(LOOPS[recipe](Scene(compiled, root / "base", dtype)), STEPS)) for dtype in (torch.float32, torch.float64)
    )
    return tuple(relative(one["grad_norm"], two["grad_norm"]) for one, two in zip(single, double, strict=True))


def compiled_of(recipe: str) -> CompiledRecipe:
    """As shipped, but for its size."""
    return compile_recipe(load_recipe(ROOT / "recipes" / f"{recipe}.yaml", (*OVERRIDES, *CHANGED.get(recipe, ()))))


def relative(one: float, other: float) -> float:
    """Over the other; nothing where both are nothing."""
    return abs(one - other) / other if other else abs(one)


# ---------------------------------------------------------------- the system


async def through_services(compiled: CompiledRecipe, root: Path, base: Path) -> Path:
    """A run over all services; its folder."""
    runs = root / "runs"
    runs.mkdir()
    async with AsyncExitStack() as stack:
        models = {one.model for one in compiled.teachers.values()}
        served: dict[str, Mapping[str, object]] = {name: teacher for name, teacher in teachers(base).items() if name in models}
        if "tiny-judge" in models:
            provider = await stack.enter_async_context(standing_in(MODEL_DIRS["teacher"]))
            served["tiny-judge"] = {"engine": "api", "base_url": provider.base_url, "model": "m", "private_hosts": ["127.0.0.1"]}
        (root / "teachers.yaml").write_text(json.dumps({"teachers": served}))
        writes = any(source.writer != "student" for source in compiled.recipe.sources.values())
        client = ClientSettings(writers=f"tiny-teacher={MODEL_DIRS['teacher']}" if writes else None)
        ports = await stack.enter_async_context(in_this_process(client, runs, environ=environ(root)))
        await Learner(RunPlan.of("n3", "local", compiled), ports, RunFolder.of(runs, "n3")).run()
    return runs / "n3"


def teachers(base: Path) -> dict[str, Mapping[str, object]]:
    """Whatever a shipped recipe names, but for providers."""
    return {
        "tiny-teacher": {"folder": str(MODEL_DIRS["teacher"])},
        "tiny-student": {"folder": str(MODEL_DIRS["student"])},
        "tiny-base": {"folder": str(base)},
        "checks": {"engine": "check"},
    }


def environ(root: Path) -> dict[str, str]:
    """What the services read."""
    student = f"tiny={MODEL_DIRS['student']}"
    return {
        "PRECEPTOR_TEACHER_TEACHERS_FILE": str(root / "teachers.yaml"),
        "PRECEPTOR_ROLLOUT_MODEL": student,
        "PRECEPTOR_STUDENT_MODEL": student,
        "PRECEPTOR_STUDENT_TEACHER_HEADS": str(MODEL_DIRS["teacher"]),
        "PRECEPTOR_STUDENT_KEEP_VERSIONS": "1",
    }


def write_base(folder: Path) -> Path:
    """A second model for recipes that want one: the student's start, every weight a little off."""
    shutil.copytree(MODEL_DIRS["student"], folder)
    weights, noise = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(1)
    moved = {name: one * (1 + 0.1 * torch.randn(one.shape, generator=noise)) for name, one in weights.items()}
    save_file(moved, folder / "model.safetensors", {"format": "pt"})
    return folder


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """The events of a run's steps."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "step"]


def newest_version(folder: Path) -> Path:
    """The weights that were published last."""
    return max((folder / "versions").glob("*/model.safetensors"), key=lambda path: path.stat().st_mtime)


def main(recipes: Sequence[str]) -> None:
    print("| recipe | loss | gradient norm | weights |\n|---|---|---|---|")
    for recipe in recipes or sorted(LOOPS):
        with tempfile.TemporaryDirectory() as root:
            print(apart(recipe, Path(root)).row(recipe), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
