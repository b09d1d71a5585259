"""Names and digests that two builders must compute alike, each spelled out to the byte.

Every digest is SHA-256 (the cache key is HMAC-SHA-256) over a domain line and then fields without gaps: numbers are
little-endian, text is UTF-8, and whatever can vary in length is preceded by its length as u32. `docs/protocol.md` has
worked examples.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from preceptor.errors import InvalidArgument
from preceptor.limits import check_name
from preceptor.types import ModelRef, RaggedIds, RolloutId, Sequence, Want

SHA256_BYTES = 32
U32_END, U64_END = 1 << 32, 1 << 64
NUMBER = re.compile(r"(0|[1-9][0-9]*)\Z")

MODEL_REF_DOMAIN = b"preceptor model-ref 1\n"
EFFECT_DOMAIN = b"preceptor effect 1\n"
BATCH_DOMAIN = b"preceptor batch 1\n"
CACHE_DOMAIN = b"preceptor cache 1\n"


class TokenKind(IntEnum):
    """What an id stands for; the flag byte of the tokenizer digest."""

    NORMAL = 0
    SPECIAL = 1
    UNUSED = 2


@dataclass(frozen=True, slots=True)
class CacheIdentity:
    """Everything that decides a score to the bit, beside the tokens and the want."""

    model: ModelRef
    engine: str
    numerics_version: str
    dtype: str
    normaliser: str  # "full": log-softmax over every row of the head


# ---------------------------------------------------------------- rollouts and tasks


def rollout_text(rollout: RolloutId) -> str:
    """``run/step/prompt/sample/attempt``, numbers in decimal: the name of one attempt in keys and logs."""
    _check_rollout(rollout)
    return f"{rollout.run}/{rollout.step}/{rollout.prompt}/{rollout.sample}/{rollout.attempt}"


def rollout_from_text(text: str) -> RolloutId:
    """The inverse of `rollout_text`. Exactly one text names an attempt: no signs, no leading zeros."""
    run, *numbers = text.split("/")
    if len(numbers) != 4 or not all(NUMBER.match(number) for number in numbers):
        raise InvalidArgument(f"{text!r} names no rollout", field="rollout", value=text, limit="run/step/prompt/sample/attempt")
    step, prompt, sample, attempt = map(int, numbers)
    rollout = RolloutId(run, step, prompt, sample, attempt)
    _check_rollout(rollout)
    return rollout


def task_name(rollout: RolloutId, source: str) -> str:
    """``<rollout>/<source>``: the task of one attempt under one teacher and view, which the recipe calls `source`."""
    return f"{rollout_text(rollout)}/{check_name(source, 'source')}"


def _check_rollout(rollout: RolloutId) -> None:
    check_name(rollout.run, "rollout.run")
    for field, end in (("step", U64_END), ("prompt", U64_END), ("sample", U32_END), ("attempt", U32_END)):
        _whole(getattr(rollout, field), end, f"rollout.{field}")


# ---------------------------------------------------------------- digests


def model_ref_digest(model: ModelRef) -> bytes:
    """32 bytes that differ wherever the weights may: name, run, epoch, step, base manifest and adapter."""
    adapter = b"\x00"
    if model.adapter is not None:
        adapter = b"\x01" + _text(model.adapter.name) + _digest(model.adapter.manifest_sha256, "adapter.manifest_sha256")
    base = _digest(model.manifest_sha256, "manifest_sha256")
    numbers = struct.pack("<QQ", _whole(model.epoch, U64_END, "epoch"), _whole(model.step, U64_END, "step"))
    return _sha256(MODEL_REF_DOMAIN, _text(model.name), _text(model.run), numbers, base, adapter)


def effect_id(tenant: str, job: str, task_id: str, start: int, end: int) -> bytes:
    """32 bytes naming one effect, rows start .. end - 1 of one task, whoever computed it and however often."""
    if end < start:
        raise InvalidArgument("a row range ends before it starts", field="end", value=end, limit=start)
    rows = struct.pack("<II", _whole(start, U32_END, "start"), _whole(end, U32_END, "end"))
    return _sha256(EFFECT_DOMAIN, _text(tenant), _text(job), _text(task_id), rows)


def batch_digest(micro_batches: Iterable[bytes]) -> bytes:
    """32 bytes over the serialised micro-batches of one step, in order; where one ends and the next begins counts."""
    digest = hashlib.sha256(BATCH_DOMAIN)
    for payload in micro_batches:
        digest.update(struct.pack("<Q", len(payload)))
        digest.update(payload)
    return digest.digest()


def tokenizer_digest(entries: Iterable[tuple[TokenKind, bytes]]) -> bytes:
    """32 bytes over what every id stands for, in id order, as raw bytes: alphabets and escapes of the format undone."""
    listed = list(entries)
    digest = hashlib.sha256(struct.pack("<I", len(listed)))
    for kind, raw in listed:
        digest.update(struct.pack("<BI", kind, len(raw)))
        digest.update(raw)
    return digest.digest()


def template_digest(template: str, special_ids: Iterable[int]) -> bytes:
    """32 bytes over the chat template's text and the ids of all special tokens, ascending."""
    ids = sorted({_whole(token, U32_END, "special_ids") for token in special_ids})
    return _sha256(_text(template), struct.pack(f"<I{len(ids)}I", len(ids), *ids))


# ---------------------------------------------------------------- the cache


def cache_key(secret: bytes, identity: CacheIdentity, sequence: Sequence, want: Want) -> bytes:
    """32 bytes under which one tenant finds these scores again; without the tenant's secret nobody can guess one."""
    parts = (
        CACHE_DOMAIN,
        model_ref_digest(identity.model),
        *(_text(part) for part in (identity.engine, identity.numerics_version, identity.dtype, identity.normaliser)),
        _sequence_bytes(sequence),
        _want_bytes(want, sequence.row_count),
    )
    return hmac.new(secret, b"".join(parts), hashlib.sha256).digest()


def _sequence_bytes(sequence: Sequence) -> bytes:
    parts = [struct.pack("<I", len(sequence.segments))]
    for segment in sequence.segments:
        parts.append(struct.pack("<BI", segment.kind == "response", len(segment.ids)))
        parts.append(segment.ids.astype("<u4").tobytes())
    return b"".join(parts)


def _want_bytes(want: Want, row_count: int) -> bytes:
    if want.log_candidates:
        raise InvalidArgument(
            "put the log's candidates into the want before asking for its cache key", field="want.log_candidates"
        )
    start, end = (want.window.start, want.window.end) if want.window else (0, row_count)
    names = (want.sampled, want.entropy, want.hidden, want.next, want.deterministic, want.candidates is not None)
    flags = sum(flag << bit for bit, flag in enumerate(names))
    numbers = struct.pack(
        "<BIIIBIQdB",
        flags,
        start,
        end,
        want.topk,
        want.tail,
        want.samples,
        want.sample_seed,
        want.temperature,
        want.grade,
    )
    return numbers + _ragged_bytes(want.candidates)


def _ragged_bytes(lists: RaggedIds | None) -> bytes:
    if lists is None:
        return b""
    return struct.pack("<I", lists.row_count) + lists.offsets.astype("<u4").tobytes() + lists.ids.astype("<u4").tobytes()


# ---------------------------------------------------------------- fields


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<I", len(raw)) + raw


def _digest(value: bytes, field: str) -> bytes:
    if len(value) != SHA256_BYTES:
        raise InvalidArgument(f"{field} is not a digest", field=field, value=f"{len(value)} bytes", limit=f"{SHA256_BYTES} bytes")
    return value


def _whole(value: int, end: int, field: str) -> int:
    if not 0 <= value < end:
        raise InvalidArgument(f"{field} is out of range", field=field, value=value, limit=f"0..{end - 1}")
    return value
