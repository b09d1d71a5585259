"""The learner: the loop of on-policy distillation as a state machine over a journal, with I/O at its edges.

`Learner` runs a `RunPlan` against `Ports`; `next_work` decides, `requests`, `join` and `control` are pure, and everything that
a death could lose is journaled first. `docs/architecture.md` has the order of a step.
"""

from preceptor.learner.data import (
    EvaluationItem,
    evaluation_items,
    training_answers,
    training_prompts,
    training_tasks,
    training_views,
)
from preceptor.learner.events import Event, StepTimes, Watch
from preceptor.learner.hooks import POINTS, RARE_POINTS, Hooks, NoHooks
from preceptor.learner.learner import Learner
from preceptor.learner.plan import Control, RunPlan, Slot
from preceptor.learner.ports import Ports, RolloutPort, StudentPort, TeacherPort
from preceptor.learner.run_folder import RunFolder
from preceptor.learner.session import Patiences, Summary
from preceptor.learner.stages import Lane, Memory, Stage, Work, next_work

__all__ = [
    "POINTS",
    "RARE_POINTS",
    "Control",
    "EvaluationItem",
    "Event",
    "Hooks",
    "Lane",
    "Learner",
    "Memory",
    "NoHooks",
    "Patiences",
    "Ports",
    "RolloutPort",
    "RunFolder",
    "RunPlan",
    "Slot",
    "Stage",
    "StepTimes",
    "StudentPort",
    "Summary",
    "TeacherPort",
    "Watch",
    "Work",
    "evaluation_items",
    "next_work",
    "training_answers",
    "training_prompts",
    "training_tasks",
    "training_views",
]
