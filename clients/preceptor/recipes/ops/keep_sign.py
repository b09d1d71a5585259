"""The advantage so far where it has one sign, zero elsewhere."""

from typing import Literal

from preceptor.recipes.ops.spec import Kind, OpSpec, Params


class KeepSignParams(Params):
    """Which sign stays."""

    sign: Literal["positive", "negative"]
    """positive: only encouragement is kept; negative: only discouragement."""


SPEC = OpSpec("keep_sign", Kind.TRANSFORM, "the positive or the negative part of the advantage", params=KeepSignParams)
