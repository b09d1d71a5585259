"""Behaviour policies: how the next token of a rollout comes about.

To add one: `policies/NAME.py` with a class of the `Policy` Protocol over its parameters, `preceptor/recipes/policies/NAME.py`
with its spec under the same name, and one line in each of the two registries. A test asserts that both sets of names are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preceptor.recipes.policies.spec import NoParams
from preceptor_rollout.policies.base import Policy
from preceptor_rollout.policies.best_of_n import BestOfN
from preceptor_rollout.policies.mixture import Mixture
from preceptor_rollout.policies.speculative import Speculative
from preceptor_rollout.policies.student import Student
from preceptor_rollout.policies.takeover import Takeover
from preceptor_rollout.policies.teacher import Teacher
from preceptor_rollout.policies.trust_region import TrustRegion

POLICIES: dict[str, Callable[[Any], Policy]] = {
    "best_of_n": BestOfN,
    "mixture": Mixture,
    "speculative": Speculative,
    "student": Student,
    "takeover": Takeover,
    "teacher": Teacher,
    "trust_region": TrustRegion,
}
"""Policy name -> what makes it from its parameters, ramps already evaluated."""

STUDENT_ALONE: Policy = Student(NoParams())

__all__ = ["POLICIES", "STUDENT_ALONE", "Policy"]
