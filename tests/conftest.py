"""Hypothesis on a busy machine: a slow example is not a failing one, so there is no deadline for a single example."""

from hypothesis import settings

settings.register_profile("preceptor", deadline=None)
settings.load_profile("preceptor")
