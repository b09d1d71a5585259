"""The teacher's log-probability of the token that was drawn: one number a row."""

from preceptor.recipes.ops.spec import Kind, Needs, NoParams, OpSpec


def needs(_params: NoParams) -> Needs:
    return Needs(sampled=True)


SPEC = OpSpec("sampled", Kind.SIGNAL, "the teacher's log-probability of each drawn token", needs=needs)
