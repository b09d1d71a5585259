"""Graders: what is said of a whole response by a teacher that reads and writes text, or by a rule."""

from preceptor_teacher.graders.protocol import Ask, Grader, GraderSpec, GroupGrader, Means
from preceptor_teacher.graders.registry import GRADERS, build_grader, names_of_graders, names_of_stepping_graders

__all__ = [
    "GRADERS",
    "Ask",
    "Grader",
    "GraderSpec",
    "GroupGrader",
    "Means",
    "build_grader",
    "names_of_graders",
    "names_of_stepping_graders",
]
