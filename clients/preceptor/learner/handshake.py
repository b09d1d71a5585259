"""Before any work: everybody answers, the pairs fit, and every teacher can serve what the recipe asks of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from preceptor import wire
from preceptor.errors import NotFound, PreceptorError, Unavailable, Unsupported, WrongPair
from preceptor.learner.plan import RunPlan, Slot
from preceptor.learner.ports import Ports
from preceptor.learner.waits import persist
from preceptor.recipes import STUDENT, Grading, TeacherPlan
from preceptor.recipes.behaviour import GUIDED_ENGINES, behaviour_from_json
from preceptor.recipes.environments import TURN_ENGINES
from preceptor.suggest import did_you_mean
from preceptor.types import Capabilities, ModelInfo, TailOf, Want
from preceptor_proto.v1 import rollout_pb2, teacher_pb2

T = TypeVar("T")
EMBEDDING = "embedding"
"""The value of a grader's `compare` that needs a provider's vectors."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What came out of it: the plan with every teacher under its own name, and the student's tokenizer."""

    plan: RunPlan
    tokenizer_sha256: bytes
    tokenizer_size: int


async def shake_hands(ports: Ports, plan: RunPlan, *, connect_s: float) -> Agreed:
    """Asks every service who it is. A service that is away is one clear line, not a wait."""
    described = await _answer("rollout service", lambda left_s: ports.rollout.describe(deadline_s=left_s), connect_s)
    student = wire.model_info_from_proto(described.student)
    if not described.guided:
        _check_drawn_alone(plan, student)
    teachers: dict[str, TeacherPlan] = {}
    for name, teacher in plan.compiled.teachers.items():
        is_asked = teacher.want is not None or teacher.grading is not None
        teachers[name] = await _met(ports, plan, teacher, student, connect_s) if is_asked else teacher
    for slot in plan.slots:
        drawing = described if slot.by_student else await _writer(ports, plan, slot.source.writer, student, connect_s)
        _check_environment(slot, drawing)
    compiled = replace(plan.compiled, teachers=teachers)
    return Agreed(replace(plan, compiled=compiled), student.tokenizer_sha256, student.tokenizer_size)


def _check_drawn_alone(plan: RunPlan, student: ModelInfo) -> None:
    """Returns where no source of the student has a teacher in its loop."""
    for slot in plan.slots:
        policy = slot.source.policy_json
        if slot.by_student and policy and behaviour_from_json(policy).spec.asks_teacher:
            raise Unsupported(
                f"the rollout service's {student.engine} engine runs no policy that asks a teacher while it draws",
                field=f"sources.{slot.source.name}.policy",
                value=behaviour_from_json(policy).spec.name,
                limit="policies of the student alone",
                hint=f"start it with another engine: {', '.join(GUIDED_ENGINES)}",
            )


async def _met(ports: Ports, plan: RunPlan, teacher: TeacherPlan, student: ModelInfo, connect_s: float) -> TeacherPlan:
    """The teacher's plan under the name that its queue has."""
    request = teacher_pb2.DescribeRequest(teacher=teacher.model)
    reply = await _answer("teacher service", lambda left_s: ports.teacher.describe(request, deadline_s=left_s), connect_s)
    info = wire.model_info_from_proto(reply.teachers[0])
    listed = max((slot.source.student_topk for slot in plan.slots if teacher in slot.scorers), default=0)
    if teacher.want is not None:
        _check_pair(teacher.model, info, student)
    if lacking := [*_lacking(teacher.want or Want(), listed, info.capabilities), *_not_graded(teacher, info.capabilities)]:
        raise Unsupported(
            f"teacher {teacher.model} cannot serve this recipe: {'; '.join(lacking)}",
            field=f"teachers.{teacher.name}",
            value=teacher.model,
            limit=f"engine {info.engine} {info.engine_version}",
            hint="choose another teacher, or a recipe that asks for less",
        )
    head = info.head_sha256 if teacher.want is not None and teacher.want.hidden else b""
    return replace(teacher, model=info.model.name, head_sha256=head)


def _check_environment(slot: Slot, drawing: rollout_pb2.RolloutDescribeReply) -> None:
    """Returns where the service that draws a source has its environment, and can go on behind what it says."""
    use = slot.source.environment
    if use is None:
        return
    field, engine = f"sources.{slot.source.name}.environment", drawing.student.engine
    if engine not in TURN_ENGINES:
        raise Unsupported(
            f"the rollout service's {engine} engine draws one turn, and an environment answers between turns",
            field=field,
            value=use.name,
            limit="rollouts of one turn",
            hint=f"start it with another engine: {', '.join(TURN_ENGINES)}",
        )
    if use.name not in drawing.environments:
        setting = f'start it with --environments \'{{"{use.name}": {{"kind": KIND}}}}\''
        raise NotFound(
            f"the rollout service that draws {slot.source.name} offers no environment {use.name}",
            field=f"{field}.name",
            value=use.name,
            limit=", ".join(drawing.environments) or "none",
            hint=did_you_mean(use.name, drawing.environments) if drawing.environments else setting,
        )


async def _writer(
    ports: Ports, plan: RunPlan, writer: str, student: ModelInfo, connect_s: float
) -> rollout_pb2.RolloutDescribeReply:
    """Who writes instead of the student, once it is known to share its tokenizer."""
    model = plan.compiled.recipe.teachers[writer].model
    port = ports.writers.get(model)
    if port is None:
        raise Unavailable(
            f"nobody writes rollouts as {model}",
            field=f"sources writer {writer}",
            value=model,
            hint=f"start a second rollout service on that model's folder, and name it: --writers {model}=HOST:PORT",
        )
    reply = await _answer(f"rollout service of {model}", lambda left_s: port.describe(deadline_s=left_s), connect_s)
    _check_pair(model, wire.model_info_from_proto(reply.student), student)
    return reply


def _check_pair(name: str, info: ModelInfo, student: ModelInfo) -> None:
    if info.tokenizer_sha256 != student.tokenizer_sha256:
        raise WrongPair(
            f"{name} and {STUDENT} {student.model.name} do not share a tokenizer: the same ids mean other text",
            field="tokenizer_sha256",
            value=info.tokenizer_sha256.hex(),
            limit=student.tokenizer_sha256.hex(),
            hint="choose a pair of one family; sizes alone say nothing",
        )


def _lacking(want: Want, listed: int, can: Capabilities) -> Iterator[str]:
    if want.sampled and not can.sampled:
        yield "no log-probability of the drawn token"
    if want.topk > can.max_topk:
        yield f"top-{want.topk}, its most is {can.max_topk}"
    if want.log_candidates and listed > can.max_candidates_per_row:
        yield f"{listed} candidates a row, its most is {can.max_candidates_per_row}"
    if want.hidden and not can.hidden:
        yield "no hidden states"
    if want.tail is not TailOf.NONE and not can.tail:
        yield "no tail"
    if want.deterministic and not can.deterministic:
        yield "no deterministic mode"


def _not_graded(teacher: TeacherPlan, can: Capabilities) -> Iterator[str]:
    if teacher.grading is not None and teacher.grading.grader not in can.graders:
        yield f"no grader {teacher.grading.grader}, it has {', '.join(can.graders) or 'none'}"
    elif teacher.grading is not None and teacher.grading.steps and teacher.grading.grader not in can.stepping_graders:
        told = ", ".join(can.stepping_graders) or "none"
        yield f"no verdicts on steps by grader {teacher.grading.grader}, graders that give them: {told}"
    if teacher.grading is not None and _embeds_in_vain(teacher.grading, can):
        yield f"no embeddings, which grader {teacher.grading.grader} is told to compare by"


def _embeds_in_vain(grading: Grading, can: Capabilities) -> bool:
    return json.loads(grading.parameters_json or "{}").get("compare") == EMBEDDING and not can.embeddings


async def _answer(who: str, ask: Callable[[float], Awaitable[T]], connect_s: float) -> T:
    try:
        return await persist(ask, f"reaching the {who}", connect_s)
    except TimeoutError as error:
        said = error.message if isinstance(error, PreceptorError) else str(error)
        hint = "start it (`preceptor serve`), or name its address; see `preceptor config show`"
        raise Unavailable(f"the {who} does not answer: {said}", field=who.split(maxsplit=1)[0], hint=hint) from error
