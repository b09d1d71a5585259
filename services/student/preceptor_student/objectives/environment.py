"""What the environment of a rollout gave it as a whole, under the name by which it speaks beside teachers."""

from preceptor.recipes.ops import Params
from preceptor_student.objectives import reward
from preceptor_student.objectives.signals import ItemScores, Signal


def read(scores: ItemScores, params: Params) -> Signal:
    """As a grader's verdict."""
    return reward.read(scores, params)
