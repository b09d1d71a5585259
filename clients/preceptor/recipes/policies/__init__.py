"""The behaviour policies that a source may name.

To add one: `recipes/policies/NAME.py` with a `SPEC`, `preceptor_rollout/policies/NAME.py` with what it does, and one line in each
of the two registries. A test asserts that both sets of names are equal.
"""

from preceptor.recipes.policies import best_of_n, mixture, speculative, student, takeover, teacher, trust_region
from preceptor.recipes.policies.spec import PolicySpec

_MODULES = (student, teacher, mixture, trust_region, speculative, best_of_n, takeover)

POLICIES: dict[str, PolicySpec] = {module.SPEC.name: module.SPEC for module in _MODULES}
"""Policy name -> its spec."""

__all__ = ["POLICIES", "PolicySpec"]
