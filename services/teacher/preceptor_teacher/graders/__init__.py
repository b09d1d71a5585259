"""Graders: what a teacher that only reads and writes text says of a whole response."""

from preceptor_teacher.graders.protocol import Ask, Grader, GraderSpec
from preceptor_teacher.graders.registry import GRADERS, build_grader

__all__ = ["GRADERS", "Ask", "Grader", "GraderSpec", "build_grader"]
