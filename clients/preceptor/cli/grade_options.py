"""What `preceptor grade` can be asked, and the combinations that mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import typer

from preceptor import limits, wire
from preceptor.cli.options import parameter, text_option
from preceptor.client.grading import GradeOptions
from preceptor.errors import ConfigurationError
from preceptor.grade_view.records import U32, Record
from preceptor.recipes.strict_yaml import parse_yaml
from preceptor.types import GradeItem

UNSURE = "Bytes of --response before places of doubt, the worst first; repeat it."
ONE = ("response", "reference", "unsure_at")

OPTIONS = (
    text_option("records", "--from", "FILE", 'Texts, one {"prompt": ..., "response": ...} a line; - is stdin.'),
    text_option("prompt", "--prompt", "TEXT", "One response without a file: what it answers,"),
    text_option("response", "--response", "TEXT", "what it says,"),
    text_option("reference", "--reference", "TEXT", "and what a right one looks like."),
    parameter(
        "unsure_at",
        Annotated[
            list[int] | None,
            typer.Option("--unsure-at", metavar="BYTE", min=0, max=U32 - 1, help=UNSURE),
        ],
        None,
    ),
    text_option("model", "--model", "NAME", "The teacher, by name or alias; unset: the only one with this grader."),
    parameter("grader", Annotated[str, typer.Option("--grader", metavar="NAME", help="How it judges.")], "verbal"),
    parameter(
        "parameters",
        Annotated[
            list[str] | None,
            typer.Option("--param", metavar="KEY=VALUE", help="A parameter of the grader, its value YAML; repeat it."),
        ],
        None,
    ),
    text_option("job", "--job", "NAME", "The training run that this is accounted to."),
    text_option("out", "--out", "FILE", "Write verdicts there, one JSON object a line, as they come."),
    parameter(
        "as_json", Annotated[bool, typer.Option("--json", help="One JSON object a line on a terminal too; else a table.")], False
    ),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, checked: every flag in it means something."""

    records: str | None
    single: Record | None
    model: str | None
    options: GradeOptions
    out: str | None
    as_json: bool

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        """Everything that can be wrong in the call is said before anybody is asked."""
        _check_one_source(given)
        if given["out"] and given["as_json"]:
            raise _wrong("json", "given", "unset beside --out, which has the lines")
        options = GradeOptions(given["grader"], _parameters(given["parameters"] or ()), given["job"] or "")
        return cls(given["records"], _single(given), given["model"], options, given["out"], given["as_json"])


def _check_one_source(given: dict[str, Any]) -> None:
    if (given["prompt"] is None) == (given["records"] is None):
        raise _wrong("prompt", "given twice" if given["records"] else "unset", "--from FILE, or --prompt TEXT --response TEXT")
    for name in ONE:
        if given["records"] is not None and given[name] not in (None, []):
            raise _wrong(name, given[name], "unset beside --from")
    if given["prompt"] is not None and given["response"] is None:
        raise _wrong("response", "unset", "text, beside --prompt")


def _single(given: dict[str, Any]) -> Record | None:
    if given["prompt"] is None:
        return None
    item = GradeItem(given["prompt"], given["response"], given["reference"] or "", unsure_at=tuple(given["unsure_at"] or ()))
    limits.check(wire.grade_item_to_proto(item))
    return Record(item)


def _parameters(texts: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, said, value = text.partition("=")
        if not said or not name or name in found:
            raise _wrong("param", text, "KEY=VALUE, each key once")
        found[name] = parse_yaml(value, f"--param {name}")
    return found


def _wrong(field: str, value: object, limit: str) -> ConfigurationError:
    return ConfigurationError(f"{field} is {value}; it should be {limit}", field=field, value=value, limit=limit)
