"""`preceptor teachers`: what a teacher service serves, and whether its replicas agree."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from preceptor.cli.options import Json, parameter, with_flags
from preceptor.cli.output import print_json, print_table
from preceptor.cli.reaching import quiet_logs, reached, target_of
from preceptor.client.agreement import Replica, Verdict, compare, interview, replicas_behind
from preceptor.client.teacher import AsyncTeacherClient
from preceptor.config import ClientSettings, load
from preceptor.types import ModelInfo

SHORT = 12  # of a digest, on a terminal
COLUMNS = ("name", "aliases", "version", "engine", "vocabulary", "tokens", "top-k", "can", "noise", "tokenizer", "template")
CHECKED = ("", "replica", "teacher", "what", "found", "what to do")
ABILITIES = ("entropy", "tail", "hidden", "next", "deterministic", "streaming", "generate", "judge")

OPTIONS = (
    parameter(
        "replicas",
        Annotated[
            list[str] | None,
            typer.Option("--check", metavar="ADDRESS", help="Compare this replica with those behind --teacher; repeat it."),
        ],
        None,
    ),
    parameter(
        "check_dns",
        Annotated[bool, typer.Option("--check-dns", help="Compare all replicas that the name of --teacher stands for.")],
        False,
    ),
    parameter("as_json", Json, False),
)


def _teachers(config: Path | None, given: dict[str, Any]) -> None:
    flags = {name: value for name, value in given.items() if name not in {one.name for one in OPTIONS}}
    settings = load(ClientSettings, flags=flags, file=config, environ=os.environ).settings
    quiet_logs(settings)
    if given["replicas"] or given["check_dns"]:
        verdicts = asyncio.run(_checked(settings, given["replicas"] or ()))
        _tell_verdicts(verdicts, as_json=given["as_json"])
        if any(one.status == "fail" for one in verdicts):
            raise typer.Exit(1)
        return
    infos = asyncio.run(_described(settings, settings.teacher))
    if given["as_json"]:
        print_json([plain(info) for info in infos])
    else:
        print_table(COLUMNS, [_row(info) for info in infos])


async def _described(settings: ClientSettings, address: str) -> tuple[ModelInfo, ...]:
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        return await reached("teacher", address, lambda limit_s: client.describe(deadline_s=limit_s))


async def _checked(settings: ClientSettings, others: Sequence[str]) -> list[Verdict]:
    """All replicas are asked at once, each by its own address."""
    addresses = dict.fromkeys((*await replicas_behind(settings.teacher), *others))
    return compare(await asyncio.gather(*(_interviewed(settings, address) for address in addresses)))


async def _interviewed(settings: ClientSettings, address: str) -> Replica:
    async with AsyncTeacherClient(target_of(settings, address)) as client:
        infos = await reached("teacher", address, lambda limit_s: client.describe(deadline_s=limit_s))
        return await interview(address, client, infos)


def _tell_verdicts(verdicts: Sequence[Verdict], *, as_json: bool) -> None:
    if as_json:
        print_json([asdict(one) for one in verdicts])
        return
    print_table(CHECKED, [(one.status, one.replica, one.teacher, one.what, one.found, one.hint) for one in verdicts])


def plain(info: ModelInfo) -> dict[str, Any]:
    """The whole description as plain values, digests in hex."""
    return {name: _plain(value) for name, value in asdict(info).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in cast(dict[str, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in cast(Sequence[Any], value)]
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, Enum) else value


def _row(info: ModelInfo) -> tuple[str, ...]:
    can = info.capabilities
    abilities = [name for name in ABILITIES if getattr(can, name)]
    return (
        info.model.name,
        ", ".join(info.aliases) or "-",
        _version(info),
        f"{info.engine} {info.dtype}".strip(),
        f"{info.tokenizer_size} of {info.head_rows}" if info.head_rows else "-",
        str(can.max_sequence_tokens or "-"),
        str(can.max_topk),
        " ".join([*abilities, *can.graders]) or "-",
        "-" if info.noise_floor_nats is None else f"{info.noise_floor_nats:.1e}",
        info.tokenizer_sha256.hex()[:SHORT] or "-",
        info.template_sha256.hex()[:SHORT] or "-",
    )


def _version(info: ModelInfo) -> str:
    """The run and step of weights that a run made, else the start of their digest."""
    made = f"{info.model.run} step {info.model.step} " if info.model.run else ""
    return f"{made}{info.model.manifest_sha256.hex()[:SHORT]}" or "-"


teachers = with_flags(ClientSettings, _teachers, OPTIONS)
