"""The golden vectors: committed bytes that this and every later version reads and writes unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preceptor import codec
from preceptor.codec import Grade
from preceptor_proto.v1 import common_pb2
from tests.golden import generate

GOLDEN = Path(__file__).parents[3] / "golden"
COLUMNS: dict[str, Any] = json.loads((GOLDEN / "columns.json").read_text(encoding="utf-8"))
ROWS: list[dict[str, Any]] = json.loads((GOLDEN / "rows.json").read_text(encoding="utf-8"))


def numbers(shown: list[Any]) -> np.ndarray:
    return np.array([np.nan if x is None else float(x) for x in shown], np.float32)


def plane(text: str) -> bytes:
    return bytes.fromhex(text)


def label(case: dict[str, Any]) -> str:
    return f"{case['name']}-{Grade(case['grade'])}"


def test_the_committed_files_are_what_the_reference_writes() -> None:
    for name, text in generate.files().items():
        assert (GOLDEN / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("case", COLUMNS["lists"], ids=label)
def test_lists(case: dict[str, Any]) -> None:
    rows, grade = case["rows"], Grade(case["grade"])
    offsets = np.cumsum([0, *map(len, rows)])
    encoded = codec.encode_values(numbers([x for row in rows for x in row]), grade, offsets=offsets)
    assert (encoded.values, encoded.bases, encoded.steps) == tuple(plane(case[name]) for name in ("values", "bases", "steps"))
    assert (encoded.clipped, encoded.error_bound_nats) == (case["clipped"], case["error_bound_nats"])
    decoded = codec.decode_values(
        encoded.values, grade, rows=len(rows), offsets=offsets, bases=encoded.bases, steps=encoded.steps
    )
    np.testing.assert_array_equal(decoded, numbers(case["decoded"]))


@pytest.mark.parametrize("case", COLUMNS["ids"], ids=lambda case: case["name"])
def test_ids(case: dict[str, Any]) -> None:
    encoded = codec.encode_ids(np.array(case["ids"]), case["head_rows"])
    assert (encoded.low, encoded.high) == (plane(case["low"]), plane(case["high"]))
    decoded = codec.decode_ids(encoded.low, encoded.high, case["head_rows"], rows=len(case["ids"]), width=1)
    assert decoded.ravel().tolist() == case["ids"]


@pytest.mark.parametrize("case", COLUMNS["offsets"], ids=lambda case: str(case["lengths"]))
def test_offsets(case: dict[str, Any]) -> None:
    offsets = np.cumsum([0, *case["lengths"]]).astype(np.int64)
    assert codec.encode_offsets(offsets) == plane(case["plane"])
    np.testing.assert_array_equal(codec.decode_offsets(plane(case["plane"]), len(case["lengths"])), offsets)


@pytest.mark.parametrize("case", COLUMNS["hidden"], ids=lambda case: str(case["dtype"]))
def test_hidden(case: dict[str, Any]) -> None:
    decoded = codec.decode_hidden(plane(case["values"]), case["dtype"], rows=case["rows"], width=case["width"])
    np.testing.assert_array_equal(decoded.ravel(), numbers(case["decoded"]))


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case["name"])
def test_whole_messages(case: dict[str, Any]) -> None:
    raw, said = plane(case["message"]), case["decoded"]
    message = common_pb2.Rows.FromString(raw)
    assert message.SerializeToString(deterministic=True) == raw
    count = message.count
    validity = codec.decode_validity(message.validity, count)
    assert validity.tolist() == said["validity"]
    for column in ("sampled", "tail"):
        decoded = codec.decode_column(getattr(message, f"{column}_f32le"), count, validity=validity)
        np.testing.assert_array_equal(decoded, numbers(said[column]))
    for name in ("topk", "candidates", "samples"):
        check_payload(getattr(message, name), said[name], count, validity, case["head_rows"])
    hidden = message.hidden
    states = codec.decode_hidden(hidden.values, hidden.dtype, rows=count, width=hidden.width, validity=validity)
    np.testing.assert_array_equal(states.ravel(), numbers(said["hidden"]["values"]))


def check_payload(payload: common_pb2.Payload, said: dict[str, Any], count: int, validity: np.ndarray, head_rows: int) -> None:
    assert payload.width == said.get("width", 0)
    offsets = None if payload.width else codec.decode_offsets(payload.offsets_u32le, count)
    logprobs = codec.decode_values(
        payload.values,
        payload.grade,
        rows=count,
        width=payload.width,
        offsets=offsets,
        bases=payload.bases_f16le,
        steps=payload.steps_f16le,
        validity=validity,
    )
    np.testing.assert_array_equal(logprobs.ravel(), numbers(said["logprobs"]))
    if "ids" in said:
        ids = codec.decode_ids(payload.ids_low_u16le, payload.ids_high_u8, head_rows, rows=count, width=payload.width)
        assert ids.ravel().tolist() == said["ids"]
