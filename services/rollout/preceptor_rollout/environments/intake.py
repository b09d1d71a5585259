"""What is refused of requests for several turns, before anything is drawn."""

from __future__ import annotations

import json

from preceptor.errors import InvalidArgument, NotFound, Unsupported
from preceptor.recipes.environments import TURN_ENGINES
from preceptor.suggest import did_you_mean
from preceptor.types import ModelInfo
from preceptor_proto.v1 import rollout_pb2


def observed_tokens(request: rollout_pb2.GenerateRequest) -> int:
    """Most tokens that an environment can add to a rollout."""
    use = request.environment
    return (use.max_turns - 1) * use.max_observation_tokens if request.HasField("environment") else 0


def check_turns(request: rollout_pb2.GenerateRequest, info: ModelInfo, offered: tuple[str, ...]) -> None:
    """Returns where the environment exists, and the engine can do with turns."""
    has_environment = request.HasField("environment")
    if has_environment and request.environment.name not in offered:
        raise NotFound(
            f"this service offers no environment {request.environment.name}",
            field="environment.name",
            value=request.environment.name,
            limit=", ".join(offered) or "none",
            hint=did_you_mean(request.environment.name, offered)
            if offered
            else "the operator sets it up under rollout.environments",
        )
    for index, prompt in enumerate(request.prompts):
        _check_prompt(prompt, f"prompts[{index}]", request.sampling.max_new_tokens, has_environment=has_environment)
    if not has_environment and not any(prompt.first_row for prompt in request.prompts):
        return
    field = "environment" if has_environment else "first_row"
    if info.engine not in TURN_ENGINES:
        raise Unsupported(f"the {info.engine} engine draws one turn", field=field, value="set", limit=", ".join(TURN_ENGINES))


def _check_prompt(prompt: rollout_pb2.GeneratePrompt, field: str, max_new_tokens: int, *, has_environment: bool) -> None:
    contexts = (prompt.context, *([prompt.teacher_context] if prompt.HasField("teacher_context") else []))
    shortest = min(max(1, len(context.u32le) // 4) for context in contexts)
    if prompt.first_row >= min(max_new_tokens, shortest):
        raise InvalidArgument(
            f"{field}.first_row leaves nothing to draw, or counts more than a context holds",
            field=f"{field}.first_row",
            value=prompt.first_row,
            limit=f"< max_new_tokens ({max_new_tokens}), and < the tokens of context and of teacher_context",
        )
    if prompt.task_json and not has_environment:
        raise InvalidArgument(f"{field}.task_json is for an environment", field=f"{field}.task_json", limit="an environment")
    if not _is_object(prompt.task_json or "{}"):
        raise InvalidArgument(f"{field}.task_json is no JSON object", field=f"{field}.task_json", value=prompt.task_json)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
