"""What `preceptor score` can be asked, and the combinations that mean nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields
from inspect import Parameter
from typing import Annotated, Any, Self, get_args

import typer

from preceptor.cli.options import Json, parameter, text_option
from preceptor.client.rollout import GenerateOptions
from preceptor.errors import ConfigurationError
from preceptor.score_view.scale import By

RUN, SEED, MAX_NEW_TOKENS = "score", 0, 64
DRAW_FLAGS = ("run", "seed", "max_new_tokens")


def _number(name: str, flag: str, told: str) -> Parameter:
    return parameter(name, Annotated[int | None, typer.Option(flag, help=told)], None)


OPTIONS = (
    text_option("prompt", "--prompt", "TEXT", "What a user says."),
    parameter("raw", Annotated[bool, typer.Option("--raw", help="Take the prompt as it stands, past the chat template.")], False),
    text_option("response", "--response", "TEXT", "Score this text; unset: the student answers."),
    text_option("records", "--from", "FILE", 'Ids, one {"context": [...], "response": [...]} a line; - is stdin.'),
    text_option("model", "--model", "NAME", "The teacher, by name or alias; unset: the only one."),
    parameter("by", Annotated[str, typer.Option("--by", metavar="|".join(get_args(By)), help="What is coloured.")], "teacher"),
    parameter("top", Annotated[int, typer.Option("--top", metavar="K", help="The teacher's K favourites of each row.")], 0),
    parameter("rows", Annotated[bool, typer.Option("--rows", help="A table of rows below; --top brings it too.")], False),
    parameter(
        "temperature",
        Annotated[float, typer.Option("--temperature", help="Of draw and scores; 0 draws greedily and scores at 1.")],
        1.0,
    ),
    text_option("run", "--run", "NAME", f"Draw from the newest weights that this run published. [default: {RUN}]"),
    _number("seed", "--seed", f"Keys the draw. [default: {SEED}]"),
    _number("max_new_tokens", "--max-new-tokens", f"Longest answer. [default: {MAX_NEW_TOKENS}]"),
    parameter("as_json", Json, False),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, checked: every flag in it means something."""

    prompt: str | None
    raw: bool
    response: str | None
    records: str | None
    model: str | None
    by: By
    top: int
    rows: bool
    temperature: float
    run: str | None
    seed: int | None
    max_new_tokens: int | None
    as_json: bool

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        """Everything that can be wrong in the call is said before anybody is asked."""
        asked = cls(**{field.name: given[field.name] for field in fields(cls)})
        asked._check()
        return asked

    @property
    def drawing(self) -> GenerateOptions:
        return GenerateOptions(
            run=self.run or RUN,
            max_new_tokens=MAX_NEW_TOKENS if self.max_new_tokens is None else self.max_new_tokens,
            seed=SEED if self.seed is None else self.seed,
            temperature=self.temperature,
        )

    def _check(self) -> None:
        if self.by not in get_args(By):
            raise _wrong("by", self.by, " | ".join(get_args(By)))
        if self.top < 0:
            raise _wrong("top", self.top, ">= 0")
        if self.seed is not None and not 0 <= self.seed < 1 << 64:
            raise _wrong("seed", self.seed, "0 .. 2**64 - 1")
        if self.max_new_tokens is not None and not 1 <= self.max_new_tokens < 1 << 32:
            raise _wrong("max_new_tokens", self.max_new_tokens, ">= 1")
        if (self.prompt is None) == (self.records is None):
            raise _wrong("prompt", "given twice" if self.records else "unset", "--prompt TEXT, or --from FILE")
        self._refuse_flags_without_effect()

    def _refuse_flags_without_effect(self) -> None:
        if self.records is not None:
            self._refuse_beside("--from", ("raw", "response", *DRAW_FLAGS))
        if self.response is not None:
            self._refuse_beside("--response", DRAW_FLAGS)
            if self.by == "disagreement":
                raise _wrong("by", self.by, "teacher: nobody drew this text", "leave out --response, and the student answers")

    def _refuse_beside(self, other: str, names: tuple[str, ...]) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and value is not False:  # 0 is a seed that was given
                raise _wrong(name, value, f"unset beside {other}", f"leave out --{name.replace('_', '-')}")


def _wrong(field: str, value: object, limit: str, hint: str = "") -> ConfigurationError:
    return ConfigurationError(f"{field} is {value}; it should be {limit}", field=field, value=value, limit=limit, hint=hint)


def own_names() -> set[str]:
    """The names of the command's own options; the others are settings."""
    return {one.name for one in OPTIONS}
