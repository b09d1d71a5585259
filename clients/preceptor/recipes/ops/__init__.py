"""The ops that a term may name.

To add one: `recipes/ops/NAME.py` with a `SPEC`, `preceptor_student/objectives/NAME.py` with its maths under the same name, and
one line in each of the two registries. A test asserts that both sets of names are equal.
"""

from preceptor.recipes.ops import (
    adaptive_kl,
    alpha_divergence,
    bradley_terry,
    clip,
    dpo,
    entropy,
    entropy_gated_kl,
    entropy_or,
    environment,
    exponential,
    f_divergence,
    factor_within,
    forward_kl,
    freshness,
    group_relative,
    hidden,
    jsd,
    k1,
    keep_sign,
    kl_baseline,
    masked_ratio,
    mean_one,
    nll,
    orpo,
    pass_rate,
    pass_rate_within,
    perplexity,
    policy_gradient,
    positions,
    ppo_clip,
    relative,
    reverse_kl,
    reward,
    reward_pairs,
    reward_to_go,
    reward_within,
    sampled,
    scale,
    sigmoid,
    skew_kl,
    soft_targets,
    source_pairs,
    span,
    step_belief,
    step_relative,
    step_reward,
    support,
    top_fraction,
    truncated,
    truncated_ratio,
    unjudged,
    within,
)
from preceptor.recipes.ops.spec import Gradient, Kind, Needs, OpSpec, Params

_MODULES = (
    *(support, hidden, sampled, entropy, reward, step_reward, environment),
    *(reverse_kl, forward_kl, jsd, skew_kl, alpha_divergence, f_divergence, adaptive_kl, entropy_gated_kl, soft_targets, nll),
    *(policy_gradient, ppo_clip),
    *(dpo, orpo, bradley_terry),
    *(k1, group_relative, step_belief, step_relative),
    *(scale, clip, keep_sign, factor_within, kl_baseline, reward_to_go),
    *(within, exponential, relative, sigmoid, entropy_or, top_fraction, mean_one, truncated_ratio, masked_ratio),
    *(positions, span, unjudged),
    *(pass_rate, freshness, perplexity),
    *(reward_within, pass_rate_within, truncated),
    *(reward_pairs, source_pairs),
)

OPS: dict[str, OpSpec] = {module.SPEC.name: module.SPEC for module in _MODULES}
"""Op name -> its spec."""

__all__ = ["OPS", "Gradient", "Kind", "Needs", "OpSpec", "Params"]
