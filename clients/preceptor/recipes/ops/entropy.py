"""The entropy of the teacher's distribution: one number a row."""

from preceptor.recipes.ops.spec import Kind, Needs, NoParams, OpSpec


def needs(_params: NoParams) -> Needs:
    return Needs(entropy=True)


SPEC = OpSpec("entropy", Kind.SIGNAL, "the entropy of the teacher's distribution of each row", needs=needs)
