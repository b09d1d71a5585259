"""log teacher - log student of the drawn token: a one-sample estimate of minus the reverse KL, as a per-token advantage."""

from typing import Literal

from preceptor.recipes.ops.spec import Kind, OpSpec, Params
from preceptor.recipes.schedules import Number, always


class K1Params(Params):
    """Times what, and against which student."""

    scale: Number = 1.0
    """Multiplies the log-ratio; negative: away from this teacher. Two of them extrapolate beyond a teacher."""

    student: Literal["current", "drawn"] = "current"
    """current: under the weights that are being trained; drawn: under those that drew the token, as the rollout logged it."""


def idle(params: K1Params) -> str:
    return "a scale of zero leaves nothing of it" if always(params.scale, 0.0) else ""


SPEC = OpSpec(
    "k1",
    Kind.ADVANTAGE,
    "log teacher - log student of each drawn token",
    params=K1Params,
    reads=frozenset({"sampled"}),
    idle=idle,
)
