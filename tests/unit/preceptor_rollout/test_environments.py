"""Rollouts of several turns: who answers, what is logged, what is drawn, and what goes wrong for one rollout alone."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from dataclasses import replace
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

from examples.tiny.tokenizer import ASSISTANT_ID, EOS_ID, USER_ID, prompt_ids, text_ids
from preceptor.client.rollout import AfterReply, EnvironmentUse, FailedRollout, Message, Prompt
from preceptor.errors import ConfigurationError, InvalidArgument, MissingExtra, NotFound, TooLarge, Unsupported
from preceptor.queue import MemoryQueue
from preceptor.recipes.behaviour import BehaviourSpec
from preceptor.recipes.schema import OpUse
from preceptor.types import FinishReason, Rollout, as_ids
from preceptor.wire.sequences import segment_from_proto
from preceptor_rollout.environments import Answer, environments_of
from preceptor_rollout.environments.calculator import create, value_of
from tests.unit.preceptor_rollout.drawing import bits, draw, request, tiny_prompts
from tests.unit.preceptor_rollout.serving import by_name, log_of, options, serving

CALCULATOR = EnvironmentUse("sums", max_turns=4, max_observation_tokens=16)
SUMS: dict[str, Any] = {"environments": '{"sums": {"kind": "calculator"}}'}
MOST = 90
GUIDED = BehaviourSpec(policy=OpUse(op="mixture"), teacher="nobody")
PLAYED = {"environment": CALCULATOR, "max_new_tokens": 40, "stop": ("=",), "deterministic": True}


def sums(count: int = 2, samples: int = 2) -> list[Prompt]:
    return [Prompt(i, as_ids(ids), samples, task={"answer": "834"}) for i, ids in tiny_prompts(count).items()]


async def collect(client, prompts, wanted) -> list[Any]:
    return [one async for one in client.generate(prompts, wanted)]


class Points:
    """How often each point of an episode was reached."""

    def __init__(self) -> None:
        self.reached_at = Counter[str]()

    def reached(self, point: str) -> None:
        self.reached_at[point] += 1


def turns_of(rollout: Rollout) -> list[tuple[str, list[int]]]:
    return [(segment.kind, segment.ids.tolist()) for segment in rollout.sequence.segments]


# ---------------------------------------------------------------- the calculator


@pytest.mark.parametrize(
    ("expression", "value"),
    [("8+6+0", 14), ("2*(3-5)", -4), ("9" * 9, None), ("-5", None), ("2**9", None), ("7/2", None), ("x+1", None), ("1+", None),
     ("(" * 200, None), ("9*" * 120 + "9", 9**121), ("", None), ("1" * 300 + "+1", None)],
)  # fmt: skip
def test_an_expression_has_its_value_and_everything_else_is_an_answer(expression, value):
    assert value_of(expression) == value


def test_the_calculator_answers_calls_and_judges_what_is_none():
    tool = create({})
    state = tool.start({"answer": "14", "prompt": "8+6"})
    assert tool.step(state, "let me see 8+6=") == Answer.saying("14")
    assert tool.step(state, "it is 14") == Answer(reward=1.0)
    assert tool.step(state, "it is 15") == tool.step(state, "") == Answer(reward=0.0)
    with pytest.raises(ConfigurationError, match="answer"):
        tool.start({})


async def test_a_rollout_goes_on_behind_the_tools_answer_and_its_log_holds_every_turn():
    queue, points = MemoryQueue(), Points()
    async with serving(queue, hooks=points, **SUMS) as (_, client):
        found = by_name(await collect(client, sums(), options(**PLAYED, write_logs=True, student_topk=3)))
    assert len(found) == 4
    answered = sum(len(one.sequence.segments) // 2 for one in found.values())
    assert points.reached_at == {"turn drawn": answered, "environment answered": answered, "answer appended": answered - 4}
    several = [one for one in found.values() if len(one.sequence.segments) > 2]
    assert several, "the student calls its tool"
    for rollout in found.values():
        kinds = [kind for kind, _ in turns_of(rollout)]
        assert kinds == ["context", "response"] * (len(kinds) // 2)
        policy, lists = rollout.behaviour.logprob_policy, rollout.student_topk
        assert policy is not None
        assert lists is not None
        assert rollout.sequence.row_count == len(policy) == lists.row_count <= 40
        assert rollout.reward in (0.0, 1.0)
        view = await queue.read(log_of(rollout.id))
        logged = np.concatenate([segment_from_proto(entry.segment).ids for entry in view.entries])
        first = len(rollout.sequence.segments[0].ids)
        assert logged.tolist() == rollout.sequence.ids[first:].tolist()
        assert (view.length, view.finish_reason) == (len(logged), rollout.finish_reason)
        assert [bool(e.behaviour.versions_u32le) for e in view.entries] == [e.segment.HasField("response") for e in view.entries]
    _, (_, call), (_, told) = turns_of(several[0])[:3]
    value = value_of(bytes(i - 5 for i in call[:-1]).decode().split()[-1])
    assert call[-1:] == text_ids("=")
    assert told == [
        EOS_ID,
        USER_ID,
        *text_ids(str(value)),
        ASSISTANT_ID,
    ]  # the template ends the reply: it was cut before its EOS


async def test_the_rest_door_plays_too():
    body = {"prompts": [{"ids": one.context.tolist(), "task": one.task} for one in sums()], "samples": 2, "stop": ["="],
            "max_new_tokens": 40, "deterministic": True, "run": "r", "seed": 7, "step": 3,
            "environment": {"name": "sums", "max_turns": 4, "max_observation_tokens": 16}}  # fmt: skip
    async with serving(**SUMS) as (house, client), httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        told = (await http.post("/v1/generate", json=body)).json()["rollouts"]
        refused = (await http.post("/v1/generate", json={**body, "environment": {"name": "sum"}})).json()
        plain = await http.post("/v1/generate", json={"prompts": [{"ids": prompt_ids("1+1")}], "max_new_tokens": 4})
        found = by_name(await collect(client, sums(), options(**PLAYED)))
    assert [(one["prompt"], one["sample"]) for one in told] == sorted(found)
    for one in told:
        rollout = found[one["prompt"], one["sample"]]
        assert [(part["kind"], part["ids"]) for part in one["segments"]] == turns_of(rollout)
        assert (one["reward"], one["ids"]) == (rollout.reward, rollout.sequence.response_ids.tolist())
    assert (refused["field"], "sums" in refused["hint"]) == ("environment.name", True)
    assert not {"reward", "segments"} & plain.json()["rollouts"][0].keys()


# ---------------------------------------------------------------- draws


def test_draws_and_length_go_on_where_a_response_was_cut(engine):
    prompts = tiny_prompts(2)
    hot = {"temperature": 2.0, "ignore_eos": True}  # where the number that draws a token decides it
    whole = draw(engine, request(prompts, samples=1, sampling=hot, deterministic=True))
    for (prompt, _), one in whole.items():
        ids = one.sequence.response_ids.tolist()
        cut = request({prompt: prompts[prompt] + ids[:9]}, samples=1, sampling=hot, deterministic=True)
        cut.prompts[0].first_row = 9
        (rest,) = draw(engine, cut).values()
        assert rest.sequence.response_ids.tolist() == ids[9:]
        assert rest.finish_reason == one.finish_reason


async def test_a_caller_who_plays_the_environment_gets_the_same_rollout_to_the_bit():
    class Counting:
        def start(self, task):
            return [task["from"]]

        def step(self, state, reply):
            state[0] += 1
            return Answer.saying(f"{state[0]}+1", reward=0.25)

    wanted = options(max_new_tokens=MOST, deterministic=True)
    use = EnvironmentUse("counting", max_turns=3, max_observation_tokens=32)
    prompt = Prompt(5, as_ids(prompt_ids("859+827")), task={"from": 100})
    async with serving(playing={"counting": Counting()}) as (_, client):
        (played,) = await collect(client, [prompt], replace(wanted, environment=use))
        (again,) = await collect(client, [prompt], replace(wanted, environment=use))
        segments, rows = [("context", prompt.context.tolist())], 0
        while rows < MOST and len(segments) < 6:
            read = np.concatenate([as_ids(ids) for _, ids in segments])
            (turn,) = await collect(client, [replace(prompt, context=read, first_row=rows, task=None)], wanted)
            drawn = turn.sequence.response_ids.tolist()
            segments, rows = [*segments, ("response", drawn)], rows + len(drawn)
            if rows < MOST and len(segments) < 6:
                said = AfterReply((Message("user", f"{100 + len(segments) // 2}+1"),))
                ids = (await client.render([said])).ids[0].tolist()
                segments.append(("context", ids[1:] if drawn[-1] == EOS_ID else ids))
    assert bits(played) == bits(again)
    assert turns_of(played) == segments
    assert len(segments) >= 4
    assert {ids[0] for kind, ids in segments[2:] if kind == "context"} == {USER_ID}  # its own EOS is not written twice
    assert played.finish_reason is FinishReason.LENGTH  # the environment would have gone on
    assert played.reward == 0.25 * (len(segments) // 2)


# ---------------------------------------------------------------- what goes wrong


class Moody:
    """Does what the task says."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def start(self, task):
        if task["do"] == "raise at the start":
            raise RuntimeError("no world today")
        return task["do"]

    def step(self, state, reply):
        match state:
            case "raise":
                raise StopIteration("lost the world")
            case "exit":
                raise SystemExit(3)
            case "hang":
                self.release.wait(60)
            case "no answer":
                return "14"
            case "no number":
                return Answer(reward=float("nan"))
            case "too long":
                return Answer.saying("9" * 50)
            case "words for a reward":
                return Answer(reward="good")  # type: ignore[arg-type]
            case "no list":
                return Answer(None)  # type: ignore[arg-type]
            case "no text":
                return Answer.saying(14)  # type: ignore[arg-type]
            case "half a character":
                return Answer.saying("\ud83d")
            case "a great number":
                return Answer(reward=10**400)
        return Answer(reward=2.0)


# What is of no use to anybody, and what protobuf or a sum would refuse only later.
ODD = ("words for a reward", "no list", "no text", "half a character", "a great number")


async def test_an_environment_that_fails_takes_its_own_rollout_only():
    moods = ["fine", "raise", "exit", "hang", "no answer", "no number", "too long", "raise at the start", *ODD, "fine"]
    prompts = [Prompt(i, as_ids(prompt_ids("12+30")), task={"do": mood}) for i, mood in enumerate(moods)]
    moody = Moody()
    use = EnvironmentUse("moody", max_turns=2, max_observation_tokens=20)
    try:
        async with serving(playing={"moody": moody}, environment_step_s=2) as (_, client):
            outcomes = await collect(client, prompts, options(environment=use, max_new_tokens=40, stop=("=",)))
    finally:
        moody.release.set()
    found = {moods[one.id.prompt]: one for one in outcomes}
    assert len(outcomes) == len(moods)
    failed = {mood: one.error for mood, one in found.items() if isinstance(one, FailedRollout)}
    assert {mood: (error.code, error.retryable) for mood, error in failed.items()} == {
        mood: ("DEADLINE_EXCEEDED" if mood == "hang" else "ENVIRONMENT_FAILED", False) for mood in moods if mood != "fine"
    }
    assert "raised StopIteration" in failed["raise"].message
    assert all("lost the world" not in str(error) for error in failed.values()), "words of foreign code stay in the service's log"
    assert "2 s" in failed["hang"].message
    assert failed["too long"].limit == "<= max_observation_tokens (20)"
    alone = [one for one in outcomes if isinstance(one, Rollout)]
    assert [one.id.prompt for one in sorted(alone, key=lambda one: one.id.prompt)] == [0, len(moods) - 1]
    assert {one.reward for one in alone} == {2.0}


class Patient:
    """Answers the prompts that the test holds up once it lets them go, all others at once."""

    def __init__(self, held: int) -> None:
        self.held, self.release, self.reached = held, threading.Event(), threading.Event()

    def start(self, task):
        return [task["prompt"], 0]

    def step(self, state, reply):
        state[1] += 1
        if state[0] == self.held and state[1] == 1:
            self.reached.set()
            self.release.wait(60)
        return Answer.saying("1+1") if state[1] < 3 else Answer(reward=1.0)


@pytest.mark.parametrize("deterministic", [True, False])
async def test_a_tool_that_blocks_holds_up_its_own_rollout_alone(deterministic):
    """One unit runs at a time here: others of the same unit take their further turns, and another call is answered."""
    tool = Patient(held=1)
    prompts = [Prompt(i, as_ids(ids), 1, task={"prompt": i}) for i, ids in tiny_prompts(3).items()]
    use = EnvironmentUse("tool", max_turns=3, max_observation_tokens=16)
    wanted = options(environment=use, max_new_tokens=120, stop=("=",), deterministic=deterministic)
    try:
        async with serving(playing={"tool": tool}, running_units=1, environment_step_s=60) as (_, client):
            stream = client.generate(prompts, wanted)
            early: list[Any] = [await anext(stream), await anext(stream)]
            assert tool.reached.is_set()
            (other,) = await collect(client, [replace(prompts[0], task=None)], options(max_new_tokens=8))
            tool.release.set()
            late: list[Any] = [one async for one in stream]
            (alone,) = await collect(client, [prompts[1]], wanted)
    finally:
        tool.release.set()
    assert isinstance(other, Rollout)
    assert {one.id.prompt for one in early} == {0, 2}
    assert [one.id.prompt for one in late] == [1]
    assert {one.reward for one in (*early, *late)} == {1.0}
    if deterministic:
        assert bits(late[0]) == bits(alone)


async def test_requests_for_turns_that_cannot_be_are_refused_before_anything_is_drawn():
    prompt = sums(1)[0]
    cases = [
        ([prompt], {"environment": EnvironmentUse("worlds")}, NotFound, "environment.name"),
        ([prompt], {}, InvalidArgument, "prompts[0].task_json"),
        ([prompt], {"environment": EnvironmentUse("sums", 100, 100)}, TooLarge, "sampling.max_new_tokens"),
        ([replace(prompt, task=None, first_row=24)], {}, InvalidArgument, "prompts[0].first_row"),
        ([replace(prompt, task=None, first_row=10)], {}, InvalidArgument, "prompts[0].first_row"),
        ([replace(prompt, task=None, first_row=2, teacher_context=as_ids([1, 2]))], {}, InvalidArgument, "prompts[0].first_row"),
        ([prompt], {"environment": CALCULATOR, "policy": GUIDED}, Unsupported, "policy_json.policy.op"),
    ]  # fmt: skip
    async with serving(**SUMS) as (_, client):
        for prompts, fields, kind, field in cases:
            with pytest.raises(kind) as refused:
                await collect(client, prompts, options(**fields))
            assert refused.value.field == field


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("[]", "rollout.environments"),
        ('{"a": {"kind": "calculater"}}', "rollout.environments.a.kind"),
        ('{"a": {"kind": "no.such.module:create"}}', "rollout.environments.a.kind"),
        ('{"a": {"kind": "calculator", "options": {"digits": 3}}}', "environments.options.digits"),
        ('{"a": {"kind": "calculator", "url": "x"}}', "rollout.environments.a.url"),
    ],
)
def test_a_mistake_in_the_setting_is_named(text, field):
    with pytest.raises(ConfigurationError) as refused:
        environments_of(text)
    assert refused.value.field == field


# ---------------------------------------------------------------- environments of another library


def test_without_its_library_or_with_one_that_has_no_such_environments_the_service_does_not_start(monkeypatch):
    """What it does with the library itself: tests/integration/test_verifiers.py."""
    setting = '{"guess": {"kind": "verifiers", "options": {"id": "guessing-game"}}}'
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(MissingExtra) as missing:
        environments_of(setting)
    assert missing.value.hint == "pip install 'preceptor[verifiers]'"
    newer = ModuleType("verifiers")
    newer.__dict__["__version__"] = "0.4.0"
    monkeypatch.setitem(sys.modules, "verifiers", newer)
    with pytest.raises(ConfigurationError, match="no MultiTurnEnv") as refused:
        environments_of(setting)
    assert refused.value.limit == ">=0.2.1, <0.4"
    with pytest.raises(ConfigurationError, match=r"options\.name"):
        environments_of('{"guess": {"kind": "verifiers", "options": {"name": "guessing-game"}}}')
