"""Environments: who answers the student between the turns of a rollout."""

from preceptor_rollout.environments.base import Answer, Environment, Message
from preceptor_rollout.environments.registry import KINDS, environments_of

__all__ = ["KINDS", "Answer", "Environment", "Message", "environments_of"]
