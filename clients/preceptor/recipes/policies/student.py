"""Every token is the student's own draw."""

from preceptor.recipes.policies.spec import PolicySpec

SPEC = PolicySpec("student", "every token is the student's own draw", asks_teacher=False)
