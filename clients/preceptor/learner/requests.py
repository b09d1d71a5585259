"""What a learner asks for, as messages: prompts to render, groups to generate, sequences to score. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from preceptor import wire
from preceptor.journal import AttemptStarted, JournalRecord, LearnerState, PromptTaken, RolloutClosed, RolloutKey, TaskOpened
from preceptor.journal.state import PromptKey
from preceptor.learner.plan import RunPlan, Slot
from preceptor.names import task_name
from preceptor.recipes import SourcePlan, TeacherPlan
from preceptor.recipes.schema import Evaluation
from preceptor.types import RaggedIds, Rollout, RolloutId, Want
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2

SCHEMA = 1
GREEDY = 0.0
ROLLOUTS_PER_CALL = 256
RENDER_ITEMS_PER_CALL = 1024


# ---------------------------------------------------------------- prompts


def render_requests(prompts: Sequence[str]) -> Iterator[rollout_pb2.RenderRequest]:
    """Each prompt as one user message with the opening of the reply, a few at a time."""
    for start in range(0, len(prompts), RENDER_ITEMS_PER_CALL):
        request = rollout_pb2.RenderRequest()
        for text in prompts[start : start + RENDER_ITEMS_PER_CALL]:
            conversation = request.items.add().conversation
            conversation.messages.add(role="user", content=text)
            conversation.add_generation_prompt = True
        yield request


def prompt_taken(plan: RunPlan, index: int, prompt: int, ids: common_pb2.TokenIds) -> PromptTaken:
    """A rendered prompt as the journal keeps it: its ids once, its samples over all sources."""
    group = rollout_pb2.GeneratePrompt(prompt=prompt, context=ids, samples=plan.samples)
    return PromptTaken(index, prompt, 0, plan.samples, group.SerializeToString(deterministic=True))


# ---------------------------------------------------------------- groups


def missing_groups(state: LearnerState, plan: RunPlan, slot: Slot, index: int) -> list[rollout_pb2.GeneratePrompt]:
    """What to ask a source for: the samples that nobody has closed, under the next attempt.

    In deterministic mode a group is drawn as a whole or not at all, so the batch that drew a token is always the same.
    """
    groups: list[rollout_pb2.GeneratePrompt] = []
    for prompt in sorted(plan.prompts_of(index)):
        keys = [RolloutKey(index, prompt, sample) for sample in range(slot.first_sample, slot.end_sample)]
        missing = [key for key in keys if not state.is_settled(key)]
        if missing:
            attempt = _next_attempt(state, keys)
            asked = [keys] if plan.deterministic else _runs(missing)
            groups += [_group(state, run, attempt, plan.task_of(slot.source.name, prompt)) for run in asked]
    return groups


def calls(groups: Sequence[rollout_pb2.GeneratePrompt]) -> Iterator[list[rollout_pb2.GeneratePrompt]]:
    """Groups, so many at a time that one call stays within what a service takes at once."""
    taken: list[rollout_pb2.GeneratePrompt] = []
    for group in groups:
        if taken and sum(one.samples for one in taken) + group.samples > ROLLOUTS_PER_CALL:
            yield taken
            taken = []
        taken.append(group)
    if taken:
        yield taken


def generate_request(
    plan: RunPlan, slot: Slot, index: int, groups: Iterable[rollout_pb2.GeneratePrompt]
) -> rollout_pb2.GenerateRequest:
    """Rollouts of one source of one step."""
    source = slot.source
    return rollout_pb2.GenerateRequest(
        run=plan.run,
        step=index,
        prompts=groups,
        sampling=rollout_pb2.Sampling(temperature=source.temperature, max_new_tokens=source.longest_at(index), stop=source.stop),
        seed=plan.seed,
        student_topk=source.student_topk,
        deterministic=plan.deterministic,
        write_logs=bool(slot.readers),
        job=plan.run,
        min_weight_step=plan.oldest_weights(index) if slot.by_student else None,
        policy_json=source.policy_json,
        environment=_environment(source),
    )


def _environment(source: SourcePlan | None) -> rollout_pb2.EnvironmentUse | None:
    use = source.environment if source else None
    if use is None:
        return None
    return rollout_pb2.EnvironmentUse(name=use.name, max_turns=use.max_turns, max_observation_tokens=use.max_observation_tokens)


def evaluation_request(
    plan: RunPlan, index: int, ids: Sequence[common_pb2.TokenIds], first: int, asked: Evaluation
) -> rollout_pb2.GenerateRequest:
    """Greedy answers of the weights that have seen `index` steps; `first` is the number of the first question.

    Nothing is trained on them, so they are drawn in whatever batches are fastest, also in deterministic mode.
    """
    source = plan.compiled.sources[asked.source] if asked.source else None
    tasks = [plan.evaluation[first + i].task_json for i in range(len(ids))]
    prompts = [
        rollout_pb2.GeneratePrompt(prompt=first + i, context=one, samples=1, task_json=tasks[i]) for i, one in enumerate(ids)
    ]
    stop = source.stop if source else ()
    return rollout_pb2.GenerateRequest(
        run=plan.run,
        step=index,
        prompts=prompts,
        sampling=rollout_pb2.Sampling(temperature=GREEDY, max_new_tokens=asked.max_response_tokens, stop=stop),
        seed=plan.seed,
        job=plan.run,
        min_weight_step=index,
        environment=_environment(source),
    )


def rollouts_of_group(plan: RunPlan, index: int, group: rollout_pb2.GeneratePrompt) -> list[RolloutId]:
    """The attempts that a group asks for."""
    samples = range(group.first_sample, group.first_sample + group.samples)
    return [RolloutId(plan.run, index, group.prompt, sample, group.attempt) for sample in samples]


def _next_attempt(state: LearnerState, keys: Iterable[RolloutKey]) -> int:
    used = [attempt.attempt for key in keys for attempt in state.attempts.get(key, ())]
    return max(used, default=-1) + 1


def _runs(keys: Sequence[RolloutKey]) -> list[list[RolloutKey]]:
    """Consecutive samples together: a request names a range."""
    runs: list[list[RolloutKey]] = []
    for key in keys:
        if runs and runs[-1][-1].sample + 1 == key.sample:
            runs[-1].append(key)
        else:
            runs.append([key])
    return runs


def _group(state: LearnerState, keys: Sequence[RolloutKey], attempt: int, task_json: str) -> rollout_pb2.GeneratePrompt:
    taken = state.prompts[PromptKey(keys[0].step, keys[0].prompt)]
    group = rollout_pb2.GeneratePrompt.FromString(taken.payload)
    group.first_sample, group.samples, group.attempt = keys[0].sample, len(keys), attempt
    group.task_json = task_json
    return group


# ---------------------------------------------------------------- score tasks


@dataclass(frozen=True, slots=True)
class Terms:
    """What score tasks are opened under: the tokenizer, the copies of the student that teach now, and what teachers with a view
    read of each prompt."""

    tokenizer_sha256: bytes
    copies: Mapping[str, common_pb2.ModelRef] = field(default_factory=dict[str, common_pb2.ModelRef])
    views: Mapping[tuple[str, int], common_pb2.TokenIds] = field(default_factory=dict[tuple[str, int], common_pb2.TokenIds])


def attempt_records(
    state: LearnerState, plan: RunPlan, slot: Slot, groups: Iterable[rollout_pb2.GeneratePrompt], index: int, terms: Terms
) -> list[JournalRecord]:
    """What is journaled before a group is asked for: its open attempts, and a task for each teacher that reads or grades them."""
    records: list[JournalRecord] = []
    for group in groups:
        for rollout in rollouts_of_group(plan, index, group):
            if not state.is_settled(RolloutKey.of(rollout)):
                records.append(AttemptStarted(rollout))
                records += [task_opened(rollout, one, _read_by(one, group, terms), terms) for one in slot.readers]
                records += [grade_opened(rollout, grader) for grader in slot.graders]
    return records


def _read_by(scorer: TeacherPlan, group: rollout_pb2.GeneratePrompt, terms: Terms) -> common_pb2.TokenIds:
    return group.context if scorer.view is None else terms.views[scorer.name, group.prompt]


def task_opened(rollout: RolloutId, scorer: TeacherPlan, context: common_pb2.TokenIds, terms: Terms) -> TaskOpened:
    """The task of one attempt under one teacher, on its response log."""
    assert scorer.want is not None, "a scorer has a want"
    task = teacher_pb2.ScoreTask(
        schema=SCHEMA,
        task_id=task_name(rollout, scorer.name),
        rollout=wire.rollout_id_to_proto(rollout),
        teacher=_choice(scorer, terms),
        context=context,
        want=wire.want_to_proto(scorer.want),
        trace=f"{rollout.run}/{rollout.step}",
        tokenizer_sha256=terms.tokenizer_sha256,
    )
    return TaskOpened(task.task_id, rollout, 0, task.SerializeToString(deterministic=True))


def _choice(scorer: TeacherPlan, terms: Terms) -> common_pb2.ModelChoice:
    if scorer.student_copy is None:
        return wire.choice_to_proto(scorer.model)
    return common_pb2.ModelChoice(teacher=scorer.model, exact=terms.copies[scorer.name])


def rereading_opened(closed: RolloutClosed, scorer: TeacherPlan, context: common_pb2.TokenIds, terms: Terms) -> TaskOpened:
    """The task of a closed rollout under a teacher whose view was made since: the ids stand in it."""
    opened = task_opened(closed.rollout, scorer, context, terms)
    rollout = wire.rollout_from_proto(rollout_pb2.RolloutResult.FromString(closed.payload))
    task = inline_task(teacher_pb2.ScoreTask.FromString(opened.payload), rollout, b"")
    return TaskOpened(opened.task_id, opened.rollout, 0, task.SerializeToString(deterministic=True))


def grade_opened(rollout: RolloutId, grader: TeacherPlan) -> TaskOpened:
    """The verdict that one attempt owes; the queue knows whole groups alone, by what they ask."""
    assert grader.grading is not None, "a grader has a grading"
    task = teacher_pb2.ScoreTask(
        schema=SCHEMA,
        task_id=grade_name(rollout, grader),
        rollout=wire.rollout_id_to_proto(rollout),
        teacher=wire.choice_to_proto(grader.model),
        grade=teacher_pb2.GradeSpec(grader=grader.grading.grader, parameters_json=grader.grading.parameters_json),
    )
    return TaskOpened(task.task_id, rollout, 0, task.SerializeToString(deterministic=True))


def grade_name(rollout: RolloutId, grader: TeacherPlan) -> str:
    """A teacher may score and grade the same attempt."""
    return task_name(rollout, f"{grader.name}.grade")


def inline_task(task: teacher_pb2.ScoreTask, rollout: Rollout, first_envelope: bytes) -> teacher_pb2.ScoreTask:
    """The same task without its log, for a rollout that is closed: what it needs is in the journal, so no loss can stop it.

    Rows that came already fix the weights: `first_envelope` names them.
    """
    whole = teacher_pb2.ScoreTask()
    whole.CopyFrom(task)
    if not task.HasField("inline"):
        whole.ClearField("context")
        whole.inline.CopyFrom(wire.sequence_to_proto(rollout.sequence))
        whole.inline.segments[0].context.CopyFrom(task.context)  # a view reads another one than the rollout's
        whole.want.CopyFrom(wire.want_to_proto(_inline_want(wire.want_from_proto(task.want), rollout.student_topk)))
    if first_envelope:
        receipt = teacher_pb2.Envelope.FromString(first_envelope).receipt
        if receipt.HasField("model"):
            whole.teacher.exact.CopyFrom(receipt.model)
    return whole


def _inline_want(want: Want, student_topk: RaggedIds | None) -> Want:
    return replace(want, log_candidates=False, candidates=student_topk) if want.log_candidates else want
