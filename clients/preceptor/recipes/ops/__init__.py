"""The ops that a term may name.

To add one: `recipes/ops/NAME.py` with a `SPEC`, `preceptor_student/objectives/NAME.py` with its maths under the same name, and
one line in each of the two registries. A test asserts that both sets of names are equal.
"""

from preceptor.recipes.ops import (
    forward_kl,
    group_relative,
    jsd,
    k1,
    nll,
    policy_gradient,
    reverse_kl,
    reward,
    sampled,
    support,
)
from preceptor.recipes.ops.spec import Gradient, Kind, Needs, OpSpec, Params

_MODULES = (support, sampled, reward, reverse_kl, forward_kl, jsd, policy_gradient, nll, k1, group_relative)

OPS: dict[str, OpSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}
"""Op name -> its spec."""

__all__ = ["OPS", "Gradient", "Kind", "Needs", "OpSpec", "Params"]
