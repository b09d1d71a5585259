"""Runs in an environment of its own: environments of `verifiers`, drawn by the library itself and played through our two methods.

Both sides are given the same replies. What was said and what it was worth is written to a file, for the test to compare.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import verifiers as vf  # pyright: ignore[reportMissingImports]
from datasets import Dataset  # pyright: ignore[reportMissingImports]
from verifiers.clients import Client  # pyright: ignore[reportMissingImports]

from preceptor.errors import ConfigurationError
from preceptor_rollout.environments.verifiers import adapted, create

ROWS = [{"question": "a number below ten", "answer": "7"}]
TASK = {"prompt": "a number below ten", "answer": "7", "info": {"hint": "odd"}}


def exact(completion: Any, answer: str, **_: Any) -> float:
    return float(completion[-1]["content"] == answer)


def talked(completion: Any, **_: Any) -> float:
    return len(completion) / 10


def together(completions: Any, **_: Any) -> list[float]:
    return [1.0 for _ in completions]


def rubric(*funcs: Any) -> Any:
    return vf.Rubric(funcs=list(funcs), weights=[1.0] * len(funcs))


class Guessing(vf.MultiTurnEnv):
    """Says larger or smaller; a right guess ends it, and so does giving up, with a last word of the environment."""

    async def setup_state(self, state: Any) -> Any:
        state["guesses"] = 0
        return state

    @vf.stop
    async def is_right(self, state: Any) -> bool:
        return bool(state["trajectory"]) and state["trajectory"][-1]["completion"][-1]["content"] == state["answer"]

    async def env_response(self, messages: Any, state: Any, **_: Any) -> Any:
        state["guesses"] += 1
        guess = messages[-1]["content"]
        if guess == "never mind":
            state["final_env_response"] = [{"role": "user", "content": "it was " + state["answer"]}]
            return state["final_env_response"]
        if guess == "crash":
            raise vf.Error("the world ended")
        size = "larger" if int(guess) < int(state["answer"]) else "smaller"
        return [{"role": "user", "content": f"{size}, {state['info']['hint']}, {state['guesses']}"}]


class Rewriting(Guessing):
    """Shows the student another past than it had."""

    async def get_prompt_messages(self, state: Any) -> Any:
        found = await super().get_prompt_messages(state)
        return found if not state["trajectory"] else found[1:]


class Scripted(Client):
    """The model of the library's side."""

    def __init__(self, replies: list[str]) -> None:
        super().__init__(None)
        self._replies = iter(replies)

    async def get_response(self, prompt: Any, model: str, sampling_args: Any, tools: Any = None, **_: Any) -> Any:
        types = sys.modules["verifiers.types"]
        message = types.ResponseMessage(content=next(self._replies), finish_reason="stop", is_truncated=False)
        return types.Response(id="", created=0, model=model, message=message)

    def setup_client(self, config: Any) -> None: ...
    async def to_native_tool(self, tool: Any) -> None: ...
    async def to_native_prompt(self, messages: Any) -> Any: ...
    async def get_native_response(self, *_: Any, **__: Any) -> None: ...
    async def raise_from_native_response(self, response: Any) -> None: ...
    async def from_native_response(self, response: Any) -> Any: ...
    async def close(self) -> None: ...


def environments() -> dict[str, Any]:
    data = Dataset.from_list(ROWS)
    return {
        "guessing": Guessing(dataset=data, rubric=rubric(exact, talked), max_turns=4),
        "single": vf.SingleTurnEnv(dataset=data, rubric=rubric(exact)),
    }


CASES = {
    "right at last": ("guessing", ["3", "9", "7"]),
    "right at once": ("guessing", ["7"]),
    "no more turns": ("guessing", ["1", "2", "3", "4"]),
    "given up": ("guessing", ["3", "never mind"]),
    "one turn": ("single", ["7"]),
    "one wrong turn": ("single", ["8"]),
}


def drawn_by_the_library(environment: Any, replies: list[str]) -> dict[str, Any]:
    async def drawn() -> dict[str, Any]:
        row = {**TASK, "prompt": [{"role": "user", "content": TASK["prompt"]}], "example_id": 0}
        state = await environment.rollout(row, Scripted(replies), "student")
        await environment.rubric.score_rollout(state)
        said = [[one["role"], one["content"]] for one in state["completion"]]
        last = [one["content"] for one in state.get("final_env_response") or []]
        return {"said": [one for one in said if one[0] == "user" and one[1] not in last], "reward": state["reward"]}

    return asyncio.run(drawn())


def played_by_us(environment: Any, replies: list[str]) -> dict[str, Any]:
    game = adapted(environment, vf.MultiTurnEnv)
    state, said, answer = game.start(TASK), [], None
    for place, reply in enumerate(replies):
        answer = game.step(state, reply)
        said += [[one.role, one.content] for one in answer.messages]
        assert bool(answer.messages) == (place + 1 < len(replies)), (place, answer)
    assert answer is not None
    return {"said": said, "reward": answer.reward}


def two_at_once() -> list[str]:
    """Rollouts of one environment know nothing of each other."""
    game = adapted(environments()["guessing"], vf.MultiTurnEnv)
    first, second = game.start(TASK), game.start({**TASK, "answer": "2"})
    return [game.step(state, reply).messages[0].content for state, reply in ((first, "5"), (second, "5"), (first, "6"))]


def refused() -> dict[str, str]:
    data, told = Dataset.from_list(ROWS), {}
    grouped, rewriting = vf.SingleTurnEnv(dataset=data, rubric=rubric(together)), Rewriting(dataset=data, rubric=rubric(exact))
    try:
        adapted(grouped, vf.MultiTurnEnv)
    except ConfigurationError as error:
        told["grouped"] = str(error)
    for name, game, reply in (("rewriting", rewriting, "3"), ("crash", environments()["guessing"], "crash")):
        player = adapted(game, vf.MultiTurnEnv)
        try:
            player.step(player.start(TASK), reply)
        except Exception as error:  # whatever it raises, the rollout fails with it
            told[name] = f"{type(error).__name__}: {error}"
    return told


def loaded() -> float:
    """By its name, as an operator sets it up."""
    module = ModuleType("guessing_game")
    module.load_environment = lambda most=4: Guessing(  # type: ignore[attr-defined]
        dataset=Dataset.from_list(ROWS), rubric=rubric(exact), max_turns=most
    )
    sys.modules["guessing_game"] = module
    game = create({"id": "guessing-game", "args": {"most": 2}})
    state = game.start(TASK)
    game.step(state, "1")
    return game.step(state, "2").reward


def main(target: str) -> None:
    cases = {
        name: [side(environments()[which], replies) for side in (drawn_by_the_library, played_by_us)]
        for name, (which, replies) in CASES.items()
    }
    found = {"version": vf.__version__, "cases": cases, "two": two_at_once(), "refused": refused(), "loaded": loaded()}
    Path(target).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
