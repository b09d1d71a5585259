"""A policy with a teacher in its loop is refused by an engine that cannot wait for one: at the door, and before a run begins."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from preceptor.errors import Unsupported
from preceptor.learner.handshake import _check_drawn_alone
from preceptor.recipes.behaviour import GUIDED_ENGINES, BehaviourSpec
from preceptor.recipes.schema import OpUse
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.advisor import Advisor
from preceptor_serving.engines.registry import ENGINES

MIXTURE = BehaviourSpec(policy=OpUse(op="mixture", params={"coefficient": 0.4}), teacher="big").to_json()
ALONE = BehaviourSpec(policy=OpUse(op="student")).to_json()
STUDENT = cast(Any, SimpleNamespace(engine="vllm", tokenizer_sha256=b""))


@dataclass(frozen=True)
class Slot:
    source: Any
    by_student: bool = True


def plan_of(policy: str, *, by_student: bool = True) -> Any:
    return SimpleNamespace(slots=[Slot(SimpleNamespace(name="rollouts", policy_json=policy), by_student)])


def advisor(*, guided: bool) -> Advisor:
    return Advisor(cast(Any, None), cast(Any, object()), STUDENT, guided=guided)


def test_the_door_names_the_engine_and_those_that_could():
    request = rollout_pb2.GenerateRequest(policy_json=MIXTURE)
    with pytest.raises(Unsupported, match="the vllm engine") as refused:
        advisor(guided=False).check(request)
    assert refused.value.field == "policy_json.policy.op"
    assert refused.value.value == "mixture"
    assert GUIDED_ENGINES[0] in refused.value.hint
    advisor(guided=True).check(request)


@pytest.mark.parametrize("policy", ["", ALONE])
def test_what_the_student_draws_alone_passes_everywhere(policy: str):
    advisor(guided=False).check(rollout_pb2.GenerateRequest(policy_json=policy))
    _check_drawn_alone(plan_of(policy), STUDENT)


def test_a_run_is_refused_before_it_begins_by_the_source_that_asks():
    with pytest.raises(Unsupported, match="vllm engine") as refused:
        _check_drawn_alone(plan_of(MIXTURE), STUDENT)
    assert (refused.value.field, refused.value.value) == ("sources.rollouts.policy", "mixture")
    assert GUIDED_ENGINES[0] in refused.value.hint
    _check_drawn_alone(plan_of(MIXTURE, by_student=False), STUDENT)


def test_the_engines_that_are_named_are_there():
    assert {f"rollout-{name}" for name in GUIDED_ENGINES} <= ENGINES.keys()
