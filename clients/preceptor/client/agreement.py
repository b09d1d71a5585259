"""Whether all replicas behind one name are the same teacher: the same descriptions, and the same scores of one fixed probe.

A client spreads its calls over replicas. One of them with other weights, another tokenizer or another build would poison a run
row by row without any call failing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preceptor.client.teacher import AsyncTeacherClient, ScoreOptions
from preceptor.errors import PreceptorError, Unavailable, Unsupported
from preceptor.types import CacheTier, ModelInfo, ModelRef, ScoreItem, Want
from preceptor.types import Sequence as Tokens
from preceptor.types.scores import F32

CONTEXT_TOKENS, RESPONSE_TOKENS = 8, 24
STRIDE, OFFSET = 7919, 13  # a prime step: the probe walks all over any vocabulary
MUST_EQUAL = (
    "tokenizer_sha256",
    "template_sha256",
    "head_sha256",
    "tokenizer_size",
    "head_rows",
    "dtype",
    "engine",
    "engine_version",
    "numerics_version",
    "capabilities",
)
HARDWARE_NATS = 1e-4  # sums in another order on other hardware explain so much beyond the floors: a warning, not a failure
Status = Literal["ok", "warn", "fail"]
Probe = F32 | PreceptorError


@dataclass(frozen=True, slots=True)
class Replica:
    """What one address says of its teachers, and how each version that scores answered the probe."""

    address: str
    infos: tuple[ModelInfo, ...]
    probes: dict[ModelRef, Probe]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of a replica with the first one."""

    status: Status
    replica: str
    teacher: str
    what: str
    found: str
    hint: str = ""


async def replicas_behind(address: str) -> list[str]:
    """Every host:port that an address stands for, in a fixed order; addresses of another kind stand for themselves."""
    name = address.removeprefix("dns:///")
    host, _, port = name.rpartition(":")
    if ":/" in name or name.startswith("unix:") or not (host and port.isdigit()):
        return [address]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(f"{host} is no known host: {error}", field="client.teacher", value=address) from None
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [f"[{one}]:{port}" if ":" in one else f"{one}:{port}" for one in hosts]


async def interview(address: str, client: AsyncTeacherClient, infos: Sequence[ModelInfo]) -> Replica:
    """Scores the probe on every version that scores; a refusal is that version's answer."""
    scorers = [info for info in infos if info.capabilities.sampled]
    probes = {info.model: await _probe(client, info) for info in scorers}
    return Replica(address, tuple(infos), probes)


def probe_of(info: ModelInfo) -> Tokens:
    """The same ids for the same vocabulary, everywhere and always."""
    longest = min(CONTEXT_TOKENS + RESPONSE_TOKENS, info.capabilities.max_sequence_tokens)
    ids = (np.arange(longest) * STRIDE + OFFSET) % info.tokenizer_size
    return Tokens.of(ids[:CONTEXT_TOKENS], ids[CONTEXT_TOKENS:])


def compare(replicas: Sequence[Replica]) -> list[Verdict]:
    """Every replica against the first: at least one verdict for each of its teachers."""
    first, *others = replicas
    if not others:
        hint = "name others with --check HOST:PORT"
        return [Verdict("warn", first.address, "", "replicas", "only one: nothing to compare", hint)]
    return [verdict for other in others for verdict in _against(first, other)]


def _against(first: Replica, other: Replica) -> Iterator[Verdict]:
    ours, theirs = _by_name(first), _by_name(other)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs or name not in ours:
            missing = other.address if name not in theirs else first.address
            yield Verdict("fail", other.address, name, "teachers", f"{missing} has no such teacher", _SAME_FILE)
            continue
        yield from _versions(first, other, name, ours[name], theirs[name])


_SAME_FILE = "start all replicas from one teachers.yaml and one build"


def _by_name(replica: Replica) -> dict[str, list[ModelInfo]]:
    found: dict[str, list[ModelInfo]] = {}
    for info in replica.infos:
        found.setdefault(info.model.name, []).append(info)
    return found


def _versions(
    first: Replica, other: Replica, name: str, ours: Sequence[ModelInfo], theirs: Sequence[ModelInfo]
) -> Iterator[Verdict]:
    if [info.model for info in ours] != [info.model for info in theirs]:
        told = f"{_models(theirs)}; {first.address} has {_models(ours)}"
        yield Verdict("fail", other.address, name, "weights", told, "serve the same weights everywhere")
        return
    for left, right in zip(ours, theirs, strict=True):
        differing = [*_fields(first, other, left, right)]
        yield from differing
        if left.model in first.probes and right.model in other.probes:
            yield _scores(first, other, left, right)
        elif not differing:
            yield Verdict("ok", other.address, name, "description", f"as {first.address}; it scores no tokens")


def _models(infos: Sequence[ModelInfo]) -> str:
    return ", ".join(f"step {info.model.step} {info.model.manifest_sha256.hex()[:12]}".strip() for info in infos)


def _fields(first: Replica, other: Replica, left: ModelInfo, right: ModelInfo) -> Iterator[Verdict]:
    for field in MUST_EQUAL:
        mine, its = getattr(left, field), getattr(right, field)
        if mine != its:
            told = f"{_told(its)}; {first.address} has {_told(mine)}"
            yield Verdict("fail", other.address, left.model.name, field, told, _SAME_FILE)


def _told(value: object) -> str:
    return value.hex()[:12] if isinstance(value, bytes) else str(value)


def _scores(first: Replica, other: Replica, left: ModelInfo, right: ModelInfo) -> Verdict:
    """Two engines, each within its noise floor of the exact scores, are within the sum of both of each other."""
    name, mine, its = left.model.name, first.probes[left.model], other.probes[right.model]
    for address, probe in ((first.address, mine), (other.address, its)):
        if isinstance(probe, PreceptorError):
            return Verdict("fail", address, name, "probe", f"{probe.code}: {probe.message}", probe.hint)
    assert not isinstance(mine, PreceptorError)
    assert not isinstance(its, PreceptorError), "refusals were told above"
    if left.noise_floor_nats is None or right.noise_floor_nats is None:
        return Verdict("warn", other.address, name, "scores", "no noise floor is published to compare them within")
    allowed = left.noise_floor_nats + right.noise_floor_nats
    row, apart = _farthest(mine, its)
    if not apart <= allowed:
        status: Status = "warn" if apart <= HARDWARE_NATS else "fail"
        told = f"row {row}: {its[row]:.7f}; {first.address} says {mine[row]:.7f}; {apart:.2e} nats apart, {allowed:.2e} allowed"
        return Verdict(status, other.address, name, "scores", told, "compare weights, builds and hardware of the two")
    return Verdict("ok", other.address, name, "scores", f"{apart:.2e} nats from {first.address}, {allowed:.2e} allowed")


def _farthest(mine: F32, its: F32) -> tuple[int, float]:
    """The row whose two values differ most, and by how much; equal infinities do not differ."""
    with np.errstate(invalid="ignore"):
        apart = np.where(mine == its, 0.0, np.abs(mine.astype(np.float64) - its))
    apart = np.where(np.isnan(apart), np.inf, apart)  # a value on one side only
    row = int(np.argmax(apart))
    return row, float(apart[row])


async def _probe(client: AsyncTeacherClient, info: ModelInfo) -> Probe:
    item = ScoreItem(probe_of(info), _never_remembered(info))
    try:
        [result] = await client.score(info.model.name, [item], ScoreOptions(version=info.model))
    except PreceptorError as error:
        return error
    if isinstance(result, PreceptorError):
        return result
    if result.receipt.cache is not CacheTier.NONE:
        return Unsupported("the probe was answered from the score cache", value=result.receipt.cache, hint=_NO_CACHE)
    assert result.rows.sampled is not None, "it was wanted"
    return result.rows.sampled


_NO_CACHE = "such an answer says nothing of the engine: check it with --score-cache-memory-bytes 0 and without a folder"


def _never_remembered(info: ModelInfo) -> Want:
    """Draws without a seed keep a score cache out of it: what it knows may be another replica's answer, or this one's of old."""
    can = info.capabilities
    return Want(sampled=True, deterministic=can.deterministic, samples=min(1, can.max_samples))
