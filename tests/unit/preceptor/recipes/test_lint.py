"""The linter: what cannot learn, cannot run or changes nothing is refused, and its fixes lead to recipes that are fine."""

from __future__ import annotations

import copy

import pytest

from preceptor.errors import ConfigurationError
from preceptor.recipes import compile_recipe, recipe_from
from preceptor.recipes.lint import lint
from preceptor.recipes.load import override
from preceptor.recipes.resolve import resolve_term

REWARD = {"op": "reward", "params": {"grader": "g"}}
GRADED = {"teacher": "judge", "signal": REWARD}
BASE = {
    "version": 1,
    "name": "base",
    "summary": "a test",
    "data": {"path": "x.jsonl"},
    "sources": {"rollouts": {"max_response_tokens": 4, "samples_per_prompt": 2}},
    "teachers": {"tutor": {"model": "t"}},
    "terms": [{"on": "rollouts", "teacher": "tutor", "signal": "sampled", "objective": "policy_gradient", "advantage": "k1"}],
    "optimizer": {"learning_rate": 1e-3},
    "schedule": {"steps": 3, "prompts_per_step": 1, "publish_every_steps": 2},
}
ON_SUPPORT = ("terms.0.signal={op: support, params: {teacher_topk: 2}}", "terms.0.objective=forward_kl", "terms.0.advantage=null")
WITH_JUDGE = ("teachers.judge={model: j}",)
JUDGED = (*WITH_JUDGE, "terms.0.teacher=judge", f"terms.0.signal={REWARD}", "terms.0.advantage=group_relative",
          "teachers.tutor=null")  # fmt: skip
PREFERENCE = (
    *("terms.0.objective=dpo", "terms.0.advantage=null", "terms.0.normaliser=pairs", *WITH_JUDGE),
    f"terms.0.pairs={{op: reward_pairs, teacher: judge, signal: {REWARD}}}",
)
ALONE = "sources.rollouts.samples_per_prompt=1"
TEACHER_WRITES = "sources.rollouts.writer=tutor"
FRESH = ("schedule.publish_every_steps=1", "schedule.deterministic=true")

PASS_RATE = f"terms.0.sample_weights={{op: pass_rate, params: {{passed_at: 1}}, teacher: judge, signal: {REWARD}}}"
OTHER_SUPPORT = (
    "terms.0.token_weights={op: within, params: {of: divergence, at_least: 1}, signal: {op: support, params: {teacher_topk: 1}}}"
)

PLAYED = (
    *("sources.rollouts.environment={name: sums}", "terms.0.teacher=null", "terms.0.signal=environment"),
    *("terms.0.advantage=group_relative", "teachers.tutor=null"),
)
EVALUATED = "evaluation={path: x.jsonl, every_steps: 2, max_response_tokens: 4, source: %s}"
TOLD = "terms.0.sample_weights={op: pass_rate, params: {passed_at: 1}, signal: environment}"

STEPPED = (*WITH_JUDGE, "terms.0.teacher=judge", "terms.0.advantage=step_relative", "teachers.tutor=null")
SCORED = "terms.0.signal={op: step_reward, params: {grader: verbal, parameters: {steps: words}}}"

COMPARED = tuple(one.replace("'g'", "'exact'") for one in JUDGED)

# overrides, field, part of the sentence
REFUSED = [
    # nobody to tell, nothing to compare with
    (("data.answer_field=answer",), "data.answer_field", "nobody would be told"),
    (COMPARED, "terms[0].signal", "the data has none"),
    # who answers between turns
    ((*PLAYED, "sources.rollouts.environment=null"), "terms[0].signal", "have no environment"),
    ((*ON_SUPPORT, TOLD), "terms[0].sample_weights", "have no environment"),
    ((*PLAYED, *WITH_JUDGE, "terms.0.teacher=judge"), "terms[0].teacher", "does not give the reward of an environment"),
    (
        (
            *PLAYED,
            "terms.0.advantage={op: group_relative, teacher: environment, signal: environment}",
            "terms.0.signal=sampled",
            "terms.0.teacher=environment",
        ),
        "terms[0].teacher",
        "gives a reward, and no sampled",
    ),
    (
        ("terms.0.advantage=group_relative", "teachers.tutor=null", "terms.0.teacher=null", "terms.0.signal=null"),
        "terms[0].advantage",
        "none is named",
    ),
    (("teachers.environment={model: e}", "terms.0.teacher=environment"), "teachers.environment", "who answers between turns"),
    ((*PLAYED, EVALUATED % "rollout"), "evaluation.source", "no source"),
    ((EVALUATED % "rollouts",), "evaluation.source", "changes nothing"),
    # cannot learn
    (("terms.0.advantage=null",), "terms[0].advantage", "zero expected gradient"),
    (("terms.0.objective=ppo_clip", "terms.0.advantage=null"), "terms[0].advantage", "zero expected gradient"),
    (("terms.0.advantage=reverse_kl",), "terms[0].advantage", "whichever token was drawn"),
    (("terms.0.advantage=[k1, soft_targets]",), "terms[0].advantage[1]", "whichever token was drawn"),
    (("terms.0.advantage={op: clip, params: {low: 1, high: 1}}",), "terms[0].advantage.params", "zero expected gradient"),
    (("terms.0.advantage={op: clip, params: {low: 1}}",), "terms[0].advantage", "none stands before it"),
    (("terms.0.advantage=[{op: scale, params: {by: 2}}, k1]",), "terms[0].advantage[0]", "none stands before it"),
    ((TEACHER_WRITES,), "terms[0].on", "itself drew"),
    (("terms.0.objective=ppo_clip", TEACHER_WRITES), "terms[0].on", "itself drew"),
    (
        ("terms.0.objective=nll", "terms.0.teacher=null", "terms.0.signal=null", "terms.0.advantage=null"),
        "terms[0].on",
        "no teacher is in the gradient",
    ),
    (
        (
            "terms.0.objective=nll",
            "terms.0.teacher=null",
            "terms.0.signal=null",
            "terms.0.advantage=null",
            "terms.0.token_weights={op: exponential, params: {of: student_entropy, slope: 1}}",
        ),
        "terms[0].on",
        "no teacher is in the gradient",
    ),
    ((*JUDGED, ALONE), "sources.rollouts.samples_per_prompt", "always zero"),
    ((*PREFERENCE, ALONE), "sources.rollouts.samples_per_prompt", "no pair"),
    ((*ON_SUPPORT, *WITH_JUDGE, ALONE, PASS_RATE), "sources.rollouts.samples_per_prompt", "0 or 1"),
    (
        (*ON_SUPPORT, ALONE, "terms.0.sample_weights={op: perplexity, params: {of: student, prefer: likely}}"),
        "sources.rollouts.samples_per_prompt",
        "every weight is one",
    ),
    (
        (
            *PREFERENCE,
            "sources.more={max_response_tokens: 4}",
            "terms.0.pairs={op: source_pairs, params: {rejected: more}}",
            "teachers.judge=null",
        ),
        "terms[0].pairs.params.rejected",
        "same writer",
    ),
    (
        (*ON_SUPPORT, "terms.0.objective={op: soft_targets, params: {teacher_share: 0}}"),
        "terms[0].objective.params.teacher_share",
        "out of bounds",
    ),
    (
        ("terms.0.advantage=[k1, {op: kl_baseline, signal: {op: support, params: {teacher_topk: 2}}}]",),
        "terms[0].advantage[1]",
        "depends on the drawn token",
    ),
    # cannot run
    (("terms.0.advantage=[k1, group_relative]",), "terms[0].advantage[1]", "cannot read sampled"),
    *(
        (
            (*STEPPED, f"terms.0.signal={{op: step_reward, params: {{grader: {grader}}}}}"),
            "terms[0].signal",
            "tells no steps apart",
        )
        for grader in ("rubric", "critique", "pairwise", "best_of_n", "contrast", "exact", "math_verify")
    ),
    ((*STEPPED, "terms.0.signal={op: step_reward, params: {grader: verbal}}"), "terms[0].signal", "unless it is told"),
    (
        (*STEPPED, SCORED, "terms.0.signal.params.parameters.steps=none"),
        "terms[0].signal",
        "unless it is told",
    ),
    (("terms.0.advantage={op: k1, signal: entropy}",), "terms[0].advantage.signal", "cannot read entropy"),
    (("terms.0.advantage={op: k1, teacher: nobody}",), "terms[0].advantage.teacher", "no teacher 'nobody'"),
    ((*ON_SUPPORT, "terms.0.teacher=null"), "terms[0].teacher", "learns from a teacher"),
    ((*PREFERENCE, "terms.0.pairs=null", "teachers.judge=null"), "terms[0].pairs", "nothing says which"),
    (
        (*PREFERENCE, "terms.0.pairs={op: source_pairs, params: {rejected: nowhere}}"),
        "terms[0].pairs.params.rejected",
        "no source",
    ),
    ((*ON_SUPPORT, OTHER_SUPPORT), "terms[0].token_weights", "another signal"),
    # changes nothing
    (("terms.0.advantage=[k1, {op: scale, params: {by: 1}}]",), "terms[0].advantage[1]", "changes nothing"),
    (("terms.0.advantage={op: k1, params: {scale: 0}}",), "terms[0].advantage", "leaves nothing"),
    (("terms.0.advantage=[k1, {op: reward_to_go, params: {horizon: 1}}]",), "terms[0].advantage[1]", "the advantage itself"),
    (
        ("terms.0.advantage=[k1, {op: factor_within, params: {of: log_ratio}}]",),
        "terms[0].advantage[1].params",
        "everything is inside",
    ),
    (
        ("terms.0.advantage=[k1, {op: factor_within, params: {of: log_ratio, at_least: 0, outside: 1}}]",),
        "terms[0].advantage[1].params",
        "would change nothing",
    ),
    ((*ON_SUPPORT, "terms.0.token_weights=mean_one"), "terms[0].token_weights", "all rows weigh the same"),
    (
        (*ON_SUPPORT, "terms.0.token_weights=[{op: positions, params: {skip: 1}}, {op: top_fraction, params: {fraction: 0.5}}]"),
        "terms[0].token_weights[1]",
        "all rows weigh the same",
    ),
    (
        (*ON_SUPPORT, "terms.0.token_weights=[{op: exponential, params: {of: student_entropy, slope: 0}}]"),
        "terms[0].token_weights",
        "every row alike",
    ),
    ((*ON_SUPPORT, "terms.0.token_weights={op: positions, params: {}}"), "terms[0].token_weights.params", "every row stays"),
    (
        (*ON_SUPPORT, "terms.0.token_weights={op: within, params: {of: student_entropy, at_least: 1, outside: -1}}"),
        "terms[0].token_weights.params",
        "below zero",
    ),
    ((*FRESH, "terms.0.objective=ppo_clip"), "terms[0].objective", "changes nothing where"),
    ((*FRESH, "terms.0.token_weights=truncated_ratio"), "terms[0].token_weights", "changes nothing where"),
    (
        (*FRESH, "terms.0.sample_weights={op: freshness, params: {decay: 0.5}}"),
        "terms[0].sample_weights",
        "changes nothing where",
    ),
    (
        (*ON_SUPPORT, TEACHER_WRITES, "terms.0.sample_weights={op: perplexity, params: {of: student, prefer: likely}}"),
        "terms[0].sample_weights",
        "not the student",
    ),
    (
        (*ON_SUPPORT, TEACHER_WRITES, "terms.0.token_weights={op: truncated_ratio, params: {against: policy}}"),
        "terms[0].token_weights",
        "not the student",
    ),
    ((*ON_SUPPORT, "terms.0.advantage=k1"), "terms[0].advantage", "no use for an advantage"),
    (
        (f"terms.0.pairs={{op: reward_pairs, teacher: judge, signal: {REWARD}}}", *WITH_JUDGE),
        "terms[0].pairs",
        "one response at a time",
    ),
    ((*PREFERENCE, "terms.0.token_weights={op: positions, params: {skip: 1}}"), "terms[0].token_weights", "would change nothing"),
    ((*PREFERENCE, "terms.0.normaliser=rows"), "terms[0].normaliser", "not counted in rows"),
    (("terms.0.normaliser=pairs",), "terms[0].normaliser", "not counted in pairs"),
    (
        ("terms.0.token_weights={op: exponential, params: {of: student_entropy, slope: 1}, teacher: tutor, signal: sampled}",),
        "terms[0].token_weights",
        "reads no teacher here",
    ),
]


def values_of(overrides):
    values = copy.deepcopy(BASE)
    for text in overrides:
        override(values, text)
    values["teachers"] = {name: one for name, one in values["teachers"].items() if one}
    return values


@pytest.mark.parametrize(("overrides", "field", "says"), REFUSED, ids=[f"{one[1]}: {one[2]}" for one in REFUSED])
def test_what_cannot_learn_or_changes_nothing_is_refused_by_name(overrides, field, says):
    with pytest.raises(ConfigurationError) as refused:
        compile_recipe(recipe_from(values_of(overrides)))
    assert any(line.startswith(f"{field}: ") and says in line for line in str(refused.value).splitlines()), str(refused.value)


def findings_of(values):
    recipe = recipe_from(values)
    return lint(recipe, [resolve_term(term, index) for index, term in enumerate(recipe.terms)])


def fixable():
    for overrides, field, says in REFUSED:
        try:
            found = [one for one in findings_of(values_of(overrides)) if one.field == field and says in one.sentence]
        except ConfigurationError:
            continue  # refused before the linter: a slot or a parameter that makes no sense by itself
        if found and found[0].fix:
            yield overrides, field, says


@pytest.mark.parametrize(("overrides", "field", "says"), list(fixable()))
def test_a_fix_leads_to_a_recipe_without_the_finding(overrides, field, says):
    values = values_of(overrides)
    (finding,) = (one for one in findings_of(values) if one.field == field and says in one.sentence)
    for text in finding.fix:
        override(values, text)
    assert finding.fix[0] in finding.hint
    assert not any(one.field == field and says in one.sentence for one in findings_of(values))


def test_most_findings_come_with_a_fix_or_advice():
    for overrides, _, _ in REFUSED:
        with pytest.raises(ConfigurationError) as refused:
            compile_recipe(recipe_from(values_of(overrides)))
        assert refused.value.hint or "params" in refused.value.field, overrides


def test_the_base_recipe_and_its_richer_forms_are_fine():
    richer = (ON_SUPPORT, JUDGED, PREFERENCE, (*PREFERENCE, "terms.0.pairs.params={take: all}"), PLAYED,
              (*STEPPED, SCORED), (*STEPPED, SCORED.replace("verbal", "of_an_operator")),
              (*PLAYED, EVALUATED % "rollouts", "terms.0.teacher=environment"),
              (*PLAYED, *WITH_JUDGE, "sources.rollouts.policy={op: speculative, teacher: judge}"),
              (*ON_SUPPORT, "sources.rollouts.environment={name: sums}", TOLD))  # fmt: skip
    for overrides in ((), *richer):
        assert findings_of(values_of(overrides)) == []


def test_turns_need_an_engine_that_takes_them():
    recipe = recipe_from(values_of(PLAYED))
    terms = [resolve_term(term, index) for index, term in enumerate(recipe.terms)]
    assert [one.field for one in lint(recipe, terms, "draws-once")] == ["sources.rollouts.environment"]
    assert [lint(recipe, terms, engine) for engine in ("hf", "vllm")] == [[], []]


def test_imitation_of_own_draws_is_fine_where_a_judge_chooses():
    nll = (
        "terms.0.objective=nll",
        "terms.0.teacher=null",
        "terms.0.signal=null",
        "terms.0.advantage=null",
        "teachers.tutor=null",
    )
    when = f"terms.0.when={{op: reward_within, params: {{at_least: 1}}, teacher: judge, signal: {REWARD}}}"
    assert findings_of(values_of((*nll, *WITH_JUDGE, when))) == []
