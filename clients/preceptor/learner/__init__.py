"""The learner: the loop of on-policy distillation as a state machine over a journal, with I/O at its edges.

`Learner` runs a `RunPlan` against `Ports`; `next_stage` decides, `requests`, `join` and `control` are pure, and everything that
a death could lose is journaled first. `docs/architecture.md` has the order of a step.
"""

from preceptor.learner.data import EvaluationItem, evaluation_items, training_prompts
from preceptor.learner.events import Event, StepTimes, Watch
from preceptor.learner.hooks import POINTS, Hooks, NoHooks
from preceptor.learner.learner import Learner, Patiences, Summary
from preceptor.learner.plan import Control, RunPlan, Slot
from preceptor.learner.ports import Ports, RolloutPort, StudentPort, TeacherPort
from preceptor.learner.run_folder import RunFolder
from preceptor.learner.stages import Memory, Stage, next_stage

__all__ = [
    "POINTS",
    "Control",
    "EvaluationItem",
    "Event",
    "Hooks",
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
    "evaluation_items",
    "next_stage",
    "training_prompts",
]
