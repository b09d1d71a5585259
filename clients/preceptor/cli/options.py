"""Turns settings into flags: one option for each knob, with the knob's own help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from preceptor.config import Knob, Settings, knobs_of

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (YAML); also PRECEPTOR_CONFIG.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def with_flags(
    settings: type[Settings], body: Callable[[Path | None, dict[str, Any]], None], own: Sequence[Parameter] = ()
) -> Callable[..., None]:
    """A typer command that takes every knob as a flag and hands the given ones to `body(config_file, flags)`.

    Flags stay text here: validation, its messages and the sources belong to `preceptor.config.load`. `own` are the command's
    own arguments and options (`parameter`), which `body` finds among the flags under their names.
    """

    def command(**given: Any) -> None:
        file = given.pop("config")
        body(file, given)

    knobs = knobs_of(settings).values()
    parameters = [*own, parameter("config", ConfigFile, None), *(parameter(knob.name, _option(knob), None) for knob in knobs)]
    command.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def parameter(name: str, kind: Any, default: object = Parameter.empty) -> Parameter:
    """One argument or option of a command; without a default it has to be given."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def text_option(name: str, flag: str, metavar: str, told: str) -> Parameter:
    """An option of a command that is a text, or unset."""
    return parameter(name, Annotated[str | None, typer.Option(flag, metavar=metavar, help=told)], None)


def _option(knob: Knob) -> Any:
    default = "unset" if knob.default is None else str(knob.default)
    where = f"[{knob.env_names[-1]}; {knob.key}; default: {default}]"
    text = f"File that holds it: {knob.help}" if knob.secret else knob.help
    return Annotated[str | None, typer.Option(knob.flag, metavar=knob.type_name, help=f"{text} {where}")]
