"""The maths of every op, by the name of its spec in `preceptor.recipes.ops`: pure functions on tensors, one idea a file.

To add an op: its spec, a file here under the same name, and one line in the registry of its kind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preceptor_student.objectives import (
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
    quantities,
    ratios,
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
from preceptor_student.objectives.kinds import (
    Advantage,
    Condition,
    Objective,
    Pairing,
    Preference,
    SampleWeight,
    TokenWeight,
    Transform,
    compared,
    every_row,
)
from preceptor_student.objectives.rows import TermRows
from preceptor_student.objectives.signals import ItemScores, Signal

SIGNALS: dict[str, Callable[[ItemScores, Any], Signal]] = {
    "support": support.read,
    "hidden": hidden.read,
    "sampled": sampled.read,
    "entropy": entropy.read,
    "reward": reward.read,
    "environment": environment.read,
    "step_reward": step_reward.read,
}
"""Signal name -> what it makes of a teacher's columns."""

OBJECTIVES: dict[str, Objective] = {
    "reverse_kl": Objective(reverse_kl.usable, reverse_kl.loss, summand=reverse_kl.summand),
    "forward_kl": Objective(forward_kl.usable, forward_kl.loss, summand=forward_kl.summand),
    "jsd": Objective(jsd.usable, jsd.loss, summand=jsd.summand),
    "skew_kl": Objective(skew_kl.usable, skew_kl.loss, summand=skew_kl.summand),
    "alpha_divergence": Objective(alpha_divergence.usable, alpha_divergence.loss, summand=alpha_divergence.summand),
    "f_divergence": Objective(f_divergence.usable, f_divergence.loss, summand=f_divergence.summand),
    "adaptive_kl": Objective(adaptive_kl.usable, adaptive_kl.loss),
    "entropy_gated_kl": Objective(entropy_gated_kl.usable, entropy_gated_kl.loss),
    "soft_targets": Objective(soft_targets.usable, soft_targets.loss),
    "nll": Objective(nll.usable, nll.loss),
    "policy_gradient": Objective(policy_gradient.usable, policy_gradient.loss),
    "ppo_clip": Objective(ppo_clip.usable, ppo_clip.loss, ratios.logged),
}
"""Objective name -> its maths, row by row."""

PREFERENCES: dict[str, Preference] = {
    "dpo": Preference(dpo.loss),
    "orpo": Preference(orpo.loss),
    "bradley_terry": Preference(bradley_terry.loss),
}
"""Objective name -> its maths, pair by pair."""

ADVANTAGES: dict[str, Advantage] = {
    "k1": Advantage(k1.usable, k1.per_row),
    "step_belief": Advantage(every_row, step_belief.per_row),
    "step_relative": Advantage(every_row, compared, over_steps=step_relative.over_steps),
    "group_relative": Advantage(every_row, compared, group_relative.over_batch),
}
"""Advantage name -> its maths."""

TRANSFORMS: dict[str, Transform] = {
    "scale": Transform(scale.apply),
    "clip": Transform(clip.apply),
    "keep_sign": Transform(keep_sign.apply),
    "factor_within": Transform(factor_within.apply, quantities.usable),
    "kl_baseline": Transform(kl_baseline.apply, kl_baseline.usable),
    "reward_to_go": Transform(reward_to_go.apply, complete=reward_to_go.complete),
}
"""Transform of an advantage -> its maths."""

TOKEN_WEIGHTS: dict[str, TokenWeight] = {
    "within": TokenWeight(within.apply, quantities.usable),
    "exponential": TokenWeight(exponential.apply, quantities.usable),
    "relative": TokenWeight(relative.apply, quantities.usable),
    "sigmoid": TokenWeight(sigmoid.apply, quantities.usable),
    "entropy_or": TokenWeight(entropy_or.apply, quantities.usable),
    "top_fraction": TokenWeight(top_fraction.apply),
    "mean_one": TokenWeight(mean_one.apply),
    "truncated_ratio": TokenWeight(truncated_ratio.apply, ratios.logged),
    "masked_ratio": TokenWeight(masked_ratio.apply, ratios.logged),
    "positions": TokenWeight(select=positions.select),
    "span": TokenWeight(select=span.select),
    "unjudged": TokenWeight(choose=unjudged.choose),
}
"""Token weight -> its maths."""

SAMPLE_WEIGHTS: dict[str, SampleWeight] = {
    "pass_rate": pass_rate.over_batch,
    "freshness": freshness.over_batch,
    "perplexity": perplexity.over_batch,
}
"""Sample weight -> its maths over all samples of a step that a term reads."""

CONDITIONS: dict[str, Condition] = {
    "reward_within": reward_within.over_batch,
    "pass_rate_within": pass_rate_within.over_batch,
    "truncated": truncated.over_batch,
}
"""Condition -> which samples meet it."""

PAIRINGS: dict[str, Pairing] = {"reward_pairs": reward_pairs.pairs, "source_pairs": source_pairs.pairs}
"""Pairs -> which samples are held against each other."""

__all__ = [
    "ADVANTAGES",
    "CONDITIONS",
    "OBJECTIVES",
    "PAIRINGS",
    "PREFERENCES",
    "SAMPLE_WEIGHTS",
    "SIGNALS",
    "TOKEN_WEIGHTS",
    "TRANSFORMS",
    "Advantage",
    "Objective",
    "TermRows",
]
