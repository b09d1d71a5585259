"""How servers are asked for the log-probabilities of given ids, and what they call them. Pure.

To add one: its two functions and a line in `DIALECTS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preceptor.errors import Unavailable
from preceptor_teacher.api.wires.reading import Body

FLOOR = -9999.0
"""What vLLM and OpenAI write for the logarithm of zero: JSON has no infinity."""

Listed = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Position:
    """One given token: its log-probability, NaN where the server gave none, and those of the ids that it listed."""

    own: float = math.nan
    top: Listed | None = None


@dataclass(frozen=True, slots=True)
class Dialect:
    """`read` gives one position for each given token, and raises `Unavailable` for a reply of another shape."""

    path: str
    body: Callable[[str, Sequence[int], int], dict[str, Any]]
    read: Callable[[Body, Sequence[int]], list[Position]]
    lists_ids: bool


def _vllm_body(model: str, ids: Sequence[int], topk: int) -> dict[str, Any]:
    return {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "prompt_logprobs": topk}


def _read_vllm(body: Body, ids: Sequence[int]) -> list[Position]:
    """At each position the ids as text, the token itself among them."""
    return [_vllm_position(one, own) for one, own in zip(_whole(_choice(body).get("prompt_logprobs"), ids), ids, strict=True)]


def _vllm_position(entries: Any, own: int) -> Position:
    if entries is None:
        return Position()
    if not isinstance(entries, dict):
        raise _odd()
    listed = {int(token): _number(_member(entry, "logprob")) for token, entry in entries.items() if _is_id(token)}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return Position(listed.get(own, math.nan), listed)


def _openai_body(model: str, ids: Sequence[int], topk: int) -> dict[str, Any]:
    return {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}


def _read_openai(body: Body, ids: Sequence[int]) -> list[Position]:
    """Lists name tokens by their text, which several ids may share: only the tokens' own values are read."""
    values = _member(_choice(body).get("logprobs"), "token_logprobs")
    return [Position(_number(one)) for one in _whole(values, ids, written=1)]


def _sglang_body(model: str, ids: Sequence[int], topk: int) -> dict[str, Any]:
    sampling = {"max_new_tokens": 1, "temperature": 0}
    listed = {"return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": topk}
    return {"input_ids": list(ids), "sampling_params": sampling, **listed}


def _read_sglang(body: Body, ids: Sequence[int]) -> list[Position]:
    """Triples of value, id and text. Null is missing, also where the server means zero: nobody can tell."""
    meta = body.get("meta_info")
    own = [_triple(one) for one in _whole(_member(meta, "input_token_logprobs"), ids)]
    if [token for token, _ in own] != list(ids):
        raise Unavailable("the server scored other tokens than were given")
    tops: Any = _member(meta, "input_top_logprobs")
    if tops is None:
        return [Position(value) for _, value in own]
    return [
        Position(value, None if top is None else dict(map(_triple, _listed(top))))
        for (_, value), top in zip(own, _whole(tops, ids), strict=True)
    ]


def _triple(value: Any) -> tuple[int, float]:
    if not isinstance(value, list) or len(value) < 2 or type(value[1]) is not int:  # pyright: ignore[reportUnknownArgumentType]
        raise _odd()
    return value[1], _number(value[0])  # pyright: ignore[reportUnknownArgumentType]


def _choice(body: Body) -> Mapping[str, Any]:
    choices: Any = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):  # pyright: ignore[reportUnknownArgumentType]
        raise _odd()
    return choices[0]  # pyright: ignore[reportUnknownVariableType]


def _whole(values: Any, ids: Sequence[int], written: int = 0) -> list[Any]:
    """One value for each given token; up to `written` more are about tokens that the server wrote."""
    found = _listed(values)
    if not len(ids) <= len(found) <= len(ids) + written:
        raise Unavailable(f"the server gave {len(found)} values for {len(ids)} tokens")
    return found[: len(ids)]


def _listed(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise _odd()
    return values  # pyright: ignore[reportUnknownVariableType]


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _number(value: Any) -> float:
    """NaN where there is none, or what cannot be the logarithm of a probability."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 0:
        return math.nan
    return -math.inf if value <= FLOOR else float(value)


def _is_id(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit()


def _odd() -> Unavailable:
    return Unavailable("the server's reply has no log-probabilities of given tokens in this dialect's shape")


DIALECTS: dict[str, Dialect] = {
    "vllm": Dialect("/completions", _vllm_body, _read_vllm, lists_ids=True),
    "openai": Dialect("/completions", _openai_body, _read_openai, lists_ids=False),
    "sglang": Dialect("/generate", _sglang_body, _read_sglang, lists_ids=True),
}
