"""What the environment of a source gave each whole rollout: one number a sequence, and nobody is asked for it."""

from preceptor.recipes.environments import ENVIRONMENT
from preceptor.recipes.ops.spec import Kind, OpSpec

SPEC = OpSpec(ENVIRONMENT, Kind.SIGNAL, "the reward that the source's environment gave each whole rollout")
