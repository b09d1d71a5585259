"""Whether two texts state the same mathematics, decided in a process of its own: a text may take any time and memory."""

from preceptor_teacher.mathematics.process import Answer, MathProcess

__all__ = ["Answer", "MathProcess"]
