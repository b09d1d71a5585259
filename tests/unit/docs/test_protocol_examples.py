"""Every worked example of docs/protocol.md is recomputed, by hand-packed bytes and by the library's own functions."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import preceptor.queue.ledger
import preceptor.queue.memory  # noqa: F401  these two register every script
from preceptor import codec, names, wire
from preceptor.client.grading import GradeOptions, grade_request
from preceptor.errors import Unsupported
from preceptor.journal import StepApplied
from preceptor.limits import check
from preceptor.names import CacheIdentity, TokenKind
from preceptor.philox import rollout_uniform, teacher_uniform
from preceptor.queue import Flow, LogName, QueueBounds
from preceptor.queue.envelopes import unpack
from preceptor.queue.grading import name_of, task_of
from preceptor.queue.keys import flows_key, leases_key, quota_key, usage_key
from preceptor.queue.parts import check_shape, log_part
from preceptor.queue.ranks import SPAN, ready_score
from preceptor.queue.scripts import SCRIPTS
from preceptor.types import Grade, GradeItem, ModelRef, Sequence, TailOf, Want, Window
from preceptor_proto.v1 import common_pb2, rollout_pb2, teacher_pb2
from preceptor_serving.models.draw import draw

PAGE = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```text\nexample ([a-z0-9-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Fields = dict[str, str]


def fields_of(text: str) -> Fields:
    """``name: value`` lines; an indented line goes on with the value before it."""
    fields: Fields = {}
    for line in re.sub(r"\n\s+", "", text).strip().splitlines():
        name, _, value = line.partition(": ")
        fields[name] = value
    return fields


EXAMPLES = {name: fields_of(text) for name, text in BLOCK.findall(PAGE)}


def numbers(text: str) -> list[float]:
    return [float(part) for part in text.split()]


def ints(text: str) -> list[int]:
    return [int(part) for part in text.split()]


def lists(text: str) -> list[list[int]]:
    return [ints(part) for part in text.split("|")]


def lp(raw: bytes) -> bytes:
    return struct.pack("<I", len(raw)) + raw


def turns(text: str) -> Sequence:
    parts = (part.split() for part in text.split("|"))
    return Sequence.of_turns([("response" if kind == "response" else "context", list(map(int, ids))) for kind, *ids in parts])


def f32(text: str) -> np.ndarray:
    return np.array(numbers(text), np.float32)


# ---------------------------------------------------------------- sections 1 to 3


def sequence(x: Fields) -> None:
    parsed = common_pb2.Sequence.FromString(bytes.fromhex(x["proto"]))
    check(parsed)
    assert wire.sequence_from_proto(parsed) == turns(x["segments"])
    assert wire.sequence_to_proto(turns(x["segments"])).SerializeToString(deterministic=True).hex() == x["proto"]
    assert turns(x["segments"]).targets.tolist() == ints(x["targets"])
    assert turns(x["segments"]).row_count == int(x["rows"])


def tail(x: Fields) -> None:
    logits, k = numbers(x["logits"]), int(x["topk"])
    total = math.log(math.fsum(map(math.exp, logits)))
    rest = sorted(logits, reverse=True)[k:]
    shown = [*numbers(x["topk_logprobs"]), float(x["tail"])]
    computed = [*(v - total for v in sorted(logits, reverse=True)[:k]), math.log(math.fsum(map(math.exp, rest))) - total]
    assert shown == pytest.approx(computed, abs=1e-8)


def draws(x: Fields) -> None:
    seed = int(x["seed"])
    assert float(x["rollout step 3 prompt 1 sample 0 position 7"]) == rollout_uniform(seed, 3, 1, 0, 7)
    assert float(x["teacher row 5 draw 0"]) == teacher_uniform(seed, 5, 1)[0]


def draw_id(x: Fields) -> None:
    logprobs, size, u = numbers(x["logprobs"]), int(x["tokenizer_size"]), float(x["u"])
    sums = list(itertools.accumulate(map(math.exp, logprobs[:size])))
    assert int(x["id"]) == next(token for token, upto in enumerate(sums) if upto > u * sums[-1])
    assert int(x["id"]) == int(draw(torch.tensor([logprobs[:size]]), np.array([[u]]))[0, 0])


def column(x: Fields) -> None:
    values, validity = f32(x["values"]), codec.decode_validity(bytes.fromhex(x["validity"]), 3)
    by_hand = b"".join(b"\x00\x00\xc0\x7f" if math.isnan(v) else struct.pack("<f", v) for v in numbers(x["values"]))
    assert by_hand.hex() == x["sampled_f32le"] == codec.encode_column(values, validity=validity).hex()
    np.testing.assert_array_equal(codec.decode_column(by_hand, 3, validity=validity), values)


def u8(x: Fields) -> None:
    encoded = codec.encode_values(f32(x["values"])[None, :], Grade.U8)
    assert encoded.values.hex() == x["values_u8"]
    assert encoded.bases.hex() == x["bases_f16le"]
    assert encoded.steps.hex() == x["steps_f16le"]
    (base,), (step,) = (struct.unpack("<e", bytes.fromhex(x[name])) for name in ("bases_f16le", "steps_f16le"))
    meaning = {253: base - 252 * step, 254: -math.inf, 255: math.nan}
    decoded = [np.float32(meaning.get(code, base - code * step)) for code in bytes.fromhex(x["values_u8"])]
    np.testing.assert_array_equal(np.array(decoded), f32(x["decoded"]))
    assert encoded.clipped == 1


def ids(x: Fields) -> None:
    encoded = codec.encode_ids(np.array([ints(x["ids"])], np.uint32), int(x["head_rows"]))
    assert encoded.low.hex() == x["ids_low_u16le"] == b"".join(struct.pack("<H", i & 0xFFFF) for i in ints(x["ids"])).hex()
    assert encoded.high.hex() == x["ids_high_u8"] == bytes(i >> 16 for i in ints(x["ids"])).hex()


def ragged(x: Fields) -> None:
    rows = lists(x["rows"])
    offsets = [sum(map(len, rows[:i])) for i in range(len(rows) + 1)]
    assert struct.pack(f"<{len(offsets)}I", *offsets).hex() == x["offsets_u32le"]
    assert struct.pack(f"<{offsets[-1]}I", *itertools.chain(*rows)).hex() == x["ids_u32le"]
    assert codec.encode_offsets(np.array(offsets, np.uint32)).hex() == x["offsets_u32le"]


# ---------------------------------------------------------------- section 4


def tokenizer(x: Fields) -> None:
    entries = [(TokenKind.SPECIAL, b"<s>"), (TokenKind.NORMAL, b" a"), (TokenKind.NORMAL, b"\xff"), (TokenKind.UNUSED, b"")]
    assert x["entries"] == 'special "<s>" | normal " a" | normal ff | unused'
    hashed = struct.pack("<I", 4) + b"".join(bytes([kind]) + lp(raw) for kind, raw in entries)
    assert hashed.hex() == x["hashed"]
    assert hashlib.sha256(hashed).hexdigest() == x["sha256"] == names.tokenizer_digest(entries).hex()


def template(x: Fields) -> None:
    special = ints(x["special_ids"])
    hashed = lp(x["template"].encode()) + struct.pack(f"<I{len(special)}I", len(special), *sorted(special))
    assert hashed.hex() == x["hashed"]
    assert hashlib.sha256(hashed).hexdigest() == x["sha256"] == names.template_digest(x["template"], special).hex()


def model_of(x: Fields) -> ModelRef:
    return ModelRef(x["name"], x["run"], int(x["epoch"]), int(x["step"]), bytes.fromhex(x["manifest_sha256"]))


def model_ref(x: Fields) -> None:
    hashed = b"preceptor model-ref 1\n" + lp(x["name"].encode()) + lp(x["run"].encode())
    hashed += struct.pack("<QQ", int(x["epoch"]), int(x["step"])) + bytes.fromhex(x["manifest_sha256"]) + b"\x00"
    assert hashlib.sha256(hashed).hexdigest() == x["sha256"] == names.model_ref_digest(model_of(x)).hex()


def effect(x: Fields) -> None:
    start, end = int(x["start"]), int(x["end"])
    hashed = b"preceptor effect 1\n" + b"".join(lp(x[name].encode()) for name in ("tenant", "job", "task_id"))
    hashed += struct.pack("<II", start, end)
    assert hashlib.sha256(hashed).hexdigest() == x["sha256"]
    assert names.effect_id(x["tenant"], x["job"], x["task_id"], start, end).hex() == x["sha256"]


def batch(x: Fields) -> None:
    parts = [bytes.fromhex(part) for part in x["micro_batches"].split("|")]
    hashed = b"preceptor batch 1\n" + b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    assert hashed.hex() == x["hashed"]
    assert hashlib.sha256(hashed).hexdigest() == x["sha256"] == names.batch_digest(parts).hex()


def cache_key(x: Fields) -> None:
    identity = CacheIdentity(model_of(EXAMPLES["model-ref"]), x["engine"], x["numerics_version"], x["dtype"], x["normaliser"])
    assert x["want"] == "sampled topk=2 tail=topk grade=f16 window=0..1"
    want = Want(sampled=True, topk=2, tail=TailOf.TOPK, grade=Grade.F16, window=Window(0, 1))
    hashed = b"preceptor cache 1\n" + bytes.fromhex(EXAMPLES["model-ref"]["sha256"])
    hashed += b"".join(lp(x[name].encode()) for name in ("engine", "numerics_version", "dtype", "normaliser"))
    hashed += struct.pack("<I", 2) + struct.pack("<BIII", 0, 2, 1, 2) + struct.pack("<BIII", 1, 2, 3, 4)
    hashed += struct.pack("<B", 1) + struct.pack("<III", 0, 1, 2) + struct.pack("<B", 2) + struct.pack("<IQdB", 0, 0, 1.0, 1)
    secret = bytes.fromhex(x["secret"])
    assert hmac.new(secret, hashed, hashlib.sha256).hexdigest() == x["hmac_sha256"]
    assert names.cache_key(secret, identity, turns(x["segments"]), want).hex() == x["hmac_sha256"]


# ---------------------------------------------------------------- sections 5 and 7


def keys(x: Fields) -> None:
    flow, log = Flow(x["teacher"], x["tenant"], x["job"]), LogName(x["tenant"], x["job"], x["attempt"])
    built = {
        "ready": flow.ready,
        "task_key": flow.task(x["task"]),
        "out": flow.out,
        "dead": flow.dead,
        "blob": flow.blob(x["blob"].rpartition(":")[2]),
        "flows": flows_key(flow.teacher),
        "leases": leases_key(flow.teacher),
        "quota": quota_key(flow.teacher, flow.tenant),
        "usage": usage_key(flow.teacher, flow.tenant),
        "ids": log.ids,
        "subs": log.subs,
    }
    assert built == {name: x[name] for name in built}


def ready_scores(x: Fields) -> None:
    shown = {name: float(value) for name, value in x.items()}
    now = 1_700_000_000_000
    assert shown == {
        f"band 0 deadline {now}": ready_score(now, 0, suspect=False),
        "band 3 none": ready_score(SPAN - 1, 3, suspect=False),
        f"band 0 suspect {now}": ready_score(now, 0, suspect=True),
    }


def log_entry(x: Fields) -> None:
    parsed = rollout_pb2.LogEntry.FromString(bytes.fromhex(x["proto"]))
    part = log_part(parsed)
    assert part.payload.hex() == x["proto"]
    assert (part.offset, part.kind) == (int(x["offset"]), "response")
    assert part.plane == struct.pack("<2I", *ints(x["response"]))


def envelope(x: Fields) -> None:
    parsed = teacher_pb2.Envelope.FromString(bytes.fromhex(x["proto"]))
    assert parsed.SerializeToString(deterministic=True).hex() == x["proto"]
    assert (parsed.schema, parsed.task_id, parsed.rows.start, parsed.rows.count) == (1, x["task_id"], 0, 2)
    assert x["rows"] == "start 0 sampled -0.5 -2"
    assert codec.decode_column(parsed.rows.sampled_f32le, 2).tolist() == [-0.5, -2.0]


def grade_task(x: Fields) -> None:
    parsed = teacher_pb2.ScoreTask.FromString(bytes.fromhex(x["proto"]))
    check_shape(parsed)
    request = grade_request(x["teacher"], [GradeItem(x["prompt"], x["response"])], GradeOptions(x["grader"], job=x["trace"]))
    assert task_of(request, x["task_id"], 0).SerializeToString(deterministic=True).hex() == x["proto"]
    digest = hashlib.sha256(b"preceptor grade task 1\n" + request.SerializeToString(deterministic=True))
    assert name_of(request) == f"grade/{digest.hexdigest()}"
    parsed.schema = 1
    with pytest.raises(Unsupported, match="another version"):
        check_shape(parsed)


def grade_envelope(x: Fields) -> None:
    parsed = unpack(bytes.fromhex(x["proto"]))
    assert parsed.SerializeToString(deterministic=True).hex() == x["proto"]
    assert (parsed.task_id, parsed.finished) == (x["task_id"], True)
    [result] = parsed.grades.results
    assert (result.verdict.reward, result.verdict.calls) == (float(x["reward"]), int(x["calls"]))
    parsed.schema = 1
    assert unpack(parsed.SerializeToString()).error.code == common_pb2.CORRUPT


def cells(x: Fields) -> None:
    context, cell = int(x["context"]), 32

    def complete(length: int, *, closed: bool) -> str:
        """Row r needs the state at context + r - 1; its target must be known, so r < length."""
        states = context + length if closed else (context + length) // cell * cell
        return f"0..{min(length, max(0, states - context + 1))}"

    assert x["complete_rows_at_log_length_20"] == complete(20, closed=False)
    assert x["complete_rows_at_log_length_25"] == complete(25, closed=False)
    assert x["complete_rows_closed_at_30"] == complete(30, closed=True)


CHECKS: dict[str, Callable[[Fields], None]] = {
    "sequence": sequence,
    "tail": tail,
    "draws": draws,
    "draw-id": draw_id,
    "column": column,
    "u8": u8,
    "ids": ids,
    "ragged": ragged,
    "tokenizer": tokenizer,
    "template": template,
    "model-ref": model_ref,
    "effect": effect,
    "batch": batch,
    "cache-key": cache_key,
    "keys": keys,
    "ready-score": ready_scores,
    "log-entry": log_entry,
    "envelope": envelope,
    "grade-task": grade_task,
    "grade-envelope": grade_envelope,
    "cells": cells,
}


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_example(name: str) -> None:
    CHECKS[name](EXAMPLES[name])


def test_every_example_is_checked() -> None:
    assert set(EXAMPLES) == set(CHECKS)


def test_the_table_of_scripts_is_that_of_the_code() -> None:
    listed = re.findall(r"^\| `([a-z_]+)` \| ([a-z, ]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert {name: frozenset(kinds.split(", ")) for name, kinds in listed} == SCRIPTS


def test_the_numbers_of_the_queue_are_its_defaults() -> None:
    bounds = QueueBounds()
    assert (bounds.inline_rows_bytes, bounds.unread_bytes, bounds.strikes) == (16 << 10, 64 << 20, 3)
    assert (bounds.kept_s, bounds.blob_s, bounds.dead_letters_s, bounds.idle_flow_s) == (86_400, 3_600, 7 * 86_400, 3_600)
    for said in ("above 16 KiB", "more than 64 MiB", "three strikes", "24 h since last use", "| 1 h |", "7 days", "idle for 1 h"):
        assert said in PAGE, said
    assert len(StepApplied(1, names.batch_digest([])).digest) == 32
