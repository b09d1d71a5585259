"""Every divergence that is shipped, with its formula: (name, parameters, oracle)."""

from __future__ import annotations

from preceptor.recipes.ops import OPS
from preceptor.recipes.ops.spec import Params
from tests.reference import divergence_oracle as oracle

Case = tuple[str, Params, oracle.Divergence]


def case(name: str, formula: oracle.Divergence, **params: object) -> Case:
    return name, OPS[name].params(**params), formula


REVERSE = case("reverse_kl", oracle.reverse_kl)
BOUNDED = [
    case("forward_kl", oracle.forward_kl),
    case("jsd", oracle.jsd(0.3), beta=0.3),
    case("skew_kl", oracle.skew_forward(0.2), direction="forward", skew=0.2),
    case("skew_kl", oracle.skew_reverse(0.2), direction="reverse", skew=0.2),
    case("alpha_divergence", oracle.alpha(0.25), alpha=0.25),
    case("alpha_divergence", oracle.alpha(0.7), alpha=0.7),
    case("alpha_divergence", oracle.forward_kl, alpha=1.0),
    case("f_divergence", oracle.total_variation, generator="total_variation"),
    case("f_divergence", oracle.squared_hellinger, generator="squared_hellinger"),
    case("f_divergence", oracle.triangular, generator="triangular"),
]
"""Finite at zeros of the teacher."""

F_DIVERGENCES = [REVERSE, *BOUNDED]
"""Sums of one convex function: merging tokens never raises them, and their tail can be sampled."""

MIXES = [
    case("adaptive_kl", oracle.adaptive_kl(0.5), head_mass=0.5),
    case("entropy_gated_kl", oracle.gated(0.8, 1.0, 1.0), threshold_nats=0.8),
    case("entropy_gated_kl", oracle.gated(0.5, 0.7, 0.0), threshold_nats=0.5, forward_weight=0.7, reverse_weight=0.0),
]
ALL = [*F_DIVERGENCES, *MIXES]


def label(value: object) -> str:
    """Names a case in a test's id."""
    if not isinstance(value, tuple):
        return ""
    changed = value[1].model_dump(exclude_defaults=True)
    return "-".join([value[0], *(str(one) for one in changed.values())])
