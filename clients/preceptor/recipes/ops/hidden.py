"""The teacher's final hidden states, which its head turns into log-probabilities of every token, at the student.

The student service reads that head once, from a folder that its operator names (`teacher_heads`).
"""

from preceptor.recipes.ops.spec import Kind, Needs, NoParams, OpSpec


def needs(_params: NoParams) -> Needs:
    return Needs(hidden=True)


SPEC = OpSpec(
    "hidden", Kind.SIGNAL, "the teacher's hidden states: every token is compared, through the teacher's head", needs=needs
)
