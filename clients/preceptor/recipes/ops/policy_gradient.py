"""The log-probability of each drawn token, weighted by a detached advantage."""

from preceptor.recipes.ops.spec import REWARDS, Gradient, Kind, OpSpec

SPEC = OpSpec(
    "policy_gradient",
    Kind.OBJECTIVE,
    "minus advantage times the student's log-probability of the drawn token; the advantage is detached",
    gradient=Gradient.SCORE_FUNCTION,
    reads=frozenset({"sampled", "step_reward"}) | REWARDS,
    takes_advantage=True,
)
