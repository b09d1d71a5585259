"""Codes of findings. A code never changes its meaning; a new finding has a new one.

To add one: a member here with its meaning, and `make docs` for the table in docs/recipes.md.
"""

from __future__ import annotations

from enum import StrEnum, unique


@unique
class Code(StrEnum):
    """What a finding is called, by lint, by whatever refuses a recipe, and in JSON."""

    ADVANTAGE_UNUSED = "advantage-unused"
    ALWAYS_FRESH = "always-fresh"
    ANSWERS_UNTOLD = "answers-untold"
    BASELINE_SEES_DRAW = "baseline-sees-draw"
    CLAMPED = "clamped"
    COLUMNS_OF_TEACHER = "columns-of-teacher"
    COPY_AGREES = "copy-agrees"
    COPY_HEAD_CHANGES = "copy-head-changes"
    COPY_ONLY_SCORES = "copy-only-scores"
    COPY_UNPUBLISHED = "copy-unpublished"
    ENGINE_ASKS_NO_TEACHER = "engine-asks-no-teacher"
    ENGINE_TAKES_NO_TURNS = "engine-takes-no-turns"
    ENVIRONMENT_GIVES_REWARDS = "environment-gives-rewards"
    ENVIRONMENT_HAS_NO_TEACHER = "environment-has-no-teacher"
    EVALUATION_SOURCE_IDLE = "evaluation-source-idle"
    FEEDBACK_NOT_JUDGED = "feedback-not-judged"
    FEEDBACK_NOT_SHOWN = "feedback-not-shown"
    FEEDBACK_WITHOUT_SIBLINGS = "feedback-without-siblings"
    GRADIENT_ON_TEACHER_TEXT = "gradient-on-teacher-text"
    GROUP_OF_ONE = "group-of-one"
    HORIZON_TOO_LONG = "horizon-too-long"
    JUDGE_NEEDS_GROUP = "judge-needs-group"
    NAME_RESERVED = "name-reserved"
    NOBODY_TEACHES = "nobody-teaches"
    NORMALISER_UNFIT = "normaliser-unfit"
    NO_ADVANTAGE = "no-advantage"
    NO_ANSWERS = "no-answers"
    NO_ENVIRONMENT = "no-environment"
    NO_PAIRS = "no-pairs"
    NO_STEPS = "no-steps"
    NO_TAIL = "no-tail"
    NO_TOPK_OF_STUDENT = "no-topk-of-student"
    NO_WEIGHTS_BEFORE = "no-weights-before"
    PAIRS_UNUSED = "pairs-unused"
    PAIR_OF_ONE_WRITER = "pair-of-one-writer"
    PARAMETERS_IDLE = "parameters-idle"
    POLICY_ASKS_NOBODY = "policy-asks-nobody"
    POLICY_OF_OTHER_WRITER = "policy-of-other-writer"
    POLICY_WITHOUT_TEACHER = "policy-without-teacher"
    RATE_ZERO = "rate-zero"
    RENORMALISED = "renormalised"
    SIGNAL_MISSING = "signal-missing"
    SIGNAL_UNREADABLE = "signal-unreadable"
    SLOT_SIGNAL_MISSING = "slot-signal-missing"
    SLOT_SIGNAL_UNREADABLE = "slot-signal-unreadable"
    SLOT_TEACHER_UNREAD = "slot-teacher-unread"
    SOURCE_UNREAD = "source-unread"
    STEPS_UNSET = "steps-unset"
    STOPS_NO_GRADIENT = "stops-no-gradient"
    TEACHER_UNASKED = "teacher-unasked"
    TEACHER_UNREAD = "teacher-unread"
    TERM_NAME_TAKEN = "term-name-taken"
    TRANSFORM_OF_NOTHING = "transform-of-nothing"
    TWO_WANTS = "two-wants"
    UNBIASED_ON_TEACHER_TEXT = "unbiased-on-teacher-text"
    UNBIASED_STALE = "unbiased-stale"
    UNBIASED_WITHOUT_TAIL = "unbiased-without-tail"
    UNBIASED_WITHOUT_TAIL_DRAW = "unbiased-without-tail-draw"
    UNKNOWN_SOURCE = "unknown-source"
    UNKNOWN_TEACHER = "unknown-teacher"
    UNKNOWN_WRITER = "unknown-writer"
    WEIGHTS_ON_PAIRS = "weights-on-pairs"
    WEIGHT_ZERO = "weight-zero"


MEANINGS: dict[Code, str] = {
    Code.ADVANTAGE_UNUSED: "an advantage where the objective takes none",
    Code.ALWAYS_FRESH: "a ratio or a freshness where every rollout is drawn by the weights that are trained on it",
    Code.ANSWERS_UNTOLD: "`data.answer_field` where no grader would be told the answers",
    Code.BASELINE_SEES_DRAW: "`kl_baseline` over a support that holds the drawn token",
    Code.CLAMPED: "biased on purpose: a clamp cuts off what is then not learned from",
    Code.COLUMNS_OF_TEACHER: "an op would read what a teacher logged that wrote the rollout, as if the student had",
    Code.COPY_AGREES: "a `current` copy without a view agrees with the student",
    Code.COPY_HEAD_CHANGES: "hidden states of a copy, whose head changes under the run",
    Code.COPY_ONLY_SCORES: "a teacher that writes, grades or guides has a copy or a view",
    Code.COPY_UNPUBLISHED: "a copy is taken at steps that are not published",
    Code.ENGINE_ASKS_NO_TEACHER: "a policy asks a teacher, and the rollout engine cannot wait for one",
    Code.ENGINE_TAKES_NO_TURNS: "an environment, and the rollout engine draws one turn",
    Code.ENVIRONMENT_GIVES_REWARDS: "another signal than its reward is asked of an environment",
    Code.ENVIRONMENT_HAS_NO_TEACHER: "an environment's reward is asked of a teacher",
    Code.EVALUATION_SOURCE_IDLE: "`evaluation.source` names a source without an environment and stop texts",
    Code.FEEDBACK_NOT_JUDGED: "a teacher reads finished rollouts that its judge does not grade",
    Code.FEEDBACK_NOT_SHOWN: "`feedback` where the view shows no finished rollout",
    Code.FEEDBACK_WITHOUT_SIBLINGS: "a view shows a sibling, and groups have one rollout",
    Code.GRADIENT_ON_TEACHER_TEXT: "a policy gradient on tokens that a teacher wrote",
    Code.GROUP_OF_ONE: "a comparison within the group, and groups have one rollout",
    Code.HORIZON_TOO_LONG: "a horizon beyond `max_response_tokens`",
    Code.JUDGE_NEEDS_GROUP: "a grader compares the rollouts of a prompt, and there is one",
    Code.NAME_RESERVED: "a teacher has a name that means something else",
    Code.NOBODY_TEACHES: "the student imitates its own draws, and no teacher is in the gradient",
    Code.NORMALISER_UNFIT: "a normaliser that the objective is not counted in",
    Code.NO_ADVANTAGE: "a policy gradient without an advantage",
    Code.NO_ANSWERS: "a grader compares with the right answer, and the data has none",
    Code.NO_ENVIRONMENT: "a term reads an environment's reward, and its source has no environment",
    Code.NO_PAIRS: "a preference objective without pairs",
    Code.NO_STEPS: "`step_reward` of a grader that tells no steps apart",
    Code.NO_TAIL: "biased on purpose: a partial sum without its tail",
    Code.NO_TOPK_OF_STUDENT: "`student_topk` on rollouts that a teacher writes",
    Code.NO_WEIGHTS_BEFORE: "an op works on the weights before it, and there are none",
    Code.PAIRS_UNUSED: "pairs where the objective looks at one response at a time",
    Code.PAIR_OF_ONE_WRITER: "both sides of a pair have the same writer",
    Code.PARAMETERS_IDLE: "parameters switch an op off",
    Code.POLICY_ASKS_NOBODY: "a policy names a teacher that it never asks",
    Code.POLICY_OF_OTHER_WRITER: "a behaviour policy on a source that the student does not write",
    Code.POLICY_WITHOUT_TEACHER: "a policy asks a teacher, and none is named",
    Code.RATE_ZERO: "a learning rate of zero",
    Code.RENORMALISED: "biased on purpose: probabilities are renormalised over the support",
    Code.SIGNAL_MISSING: "an objective learns from a teacher's signal, and teacher or signal is not named",
    Code.SIGNAL_UNREADABLE: "an objective cannot read the term's signal",
    Code.SLOT_SIGNAL_MISSING: "an op in a slot reads a signal that nobody gives it",
    Code.SLOT_SIGNAL_UNREADABLE: "an op in a slot cannot read the signal that it names",
    Code.SLOT_TEACHER_UNREAD: "an op in a slot names a teacher, and reads none",
    Code.SOURCE_UNREAD: "no term reads a source",
    Code.STEPS_UNSET: "`step_reward` of a grader that is not told to tell steps apart",
    Code.STOPS_NO_GRADIENT: "`stop_gradient` where the probabilities that are compared sum to one",
    Code.TEACHER_UNASKED: "nobody asks a teacher",
    Code.TEACHER_UNREAD: "a term names a teacher, and reads none",
    Code.TERM_NAME_TAKEN: "two terms have one name in metrics",
    Code.TRANSFORM_OF_NOTHING: "a transform of an advantage with none before it",
    Code.TWO_WANTS: "a teacher is asked for two signals that one request cannot hold",
    Code.UNBIASED_ON_TEACHER_TEXT: "`unbiased` on tokens that a teacher wrote",
    Code.UNBIASED_STALE: "biased on purpose: `unbiased` counts on draws of weights that are not the newest",
    Code.UNBIASED_WITHOUT_TAIL: "`unbiased` corrects a tail, and every token is compared",
    Code.UNBIASED_WITHOUT_TAIL_DRAW: "`unbiased` where the drawn token is never in the tail",
    Code.UNKNOWN_SOURCE: "a source that does not exist",
    Code.UNKNOWN_TEACHER: "a teacher that does not exist",
    Code.UNKNOWN_WRITER: "a writer that does not exist",
    Code.WEIGHTS_ON_PAIRS: "weights of tokens or rollouts under an objective that weighs whole pairs",
    Code.WEIGHT_ZERO: "a term of weight zero",
}


def codes_table() -> str:
    """All of them for docs/recipes.md."""
    rows = [f"| `{code}` | {MEANINGS[code]} |" for code in sorted(Code)]
    return "\n".join(("| code | what was found |", "|---|---|", *rows))
