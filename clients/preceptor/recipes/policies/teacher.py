"""Every token is the teacher's draw; the student is read along, so both log-probabilities are known."""

from preceptor.recipes.policies.spec import PolicySpec

SPEC = PolicySpec("teacher", "every token is the teacher's draw")
