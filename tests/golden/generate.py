"""Writes the golden vectors: `python -m tests.golden.generate`. Only the plain reference implementation speaks here.

`columns.json` has planes one by one; `rows.json` whole `Rows` messages with what they say. Planes are hex, null is "missing"
(NaN), "-inf" is "probability zero"; all other numbers are exact.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests.reference import codec_reference as ref
from tests.reference.codec_reference import INF, NAN, f32, message

HERE = Path(__file__).parent
F32, F16, U8 = 0, 1, 2
OK, MASKED, MISSING_CAP = 0, 1, 3

LISTS: dict[str, list[list[float]]] = {
    "plain": [[-0.01, -4.7, -6.25, -9.125], [-1.3862944, -1.3862944, -2.5, -31.0]],
    "missing and zero probability": [[NAN, -0.5, -INF], [NAN, NAN, NAN], [-INF, -INF, NAN]],
    "one finite entry, exact in f16": [[-0.5], [-2.0]],
    "one finite entry, inexact in f16": [[-0.1], [-1000.3]],
    "all equal": [[-3.3, -3.3, -3.3], [0.0, 0.0, -0.0]],
    "exactly at and below the floor": [[0.0, -24.0, -24.000002], [-1.0, -25.0, -300.0]],
    "far away": [[-65000.0, -65010.0, -65504.0], [-65505.0, -65527.0, -65529.0], [-1e30, -1e38, -INF]],
    "tiny": [[-1e-9, -2e-8, -1e-7], [6e-8, -6e-8, 0.0], [-1e-40, -1e-30, -5e-8]],
    "ties between codes": [[0.0, -0.5 * 15.75 / 252, -1.5 * 15.75 / 252, -2.5 * 15.75 / 252, -15.75]],
}
RAGGED = [[-0.25, -7.5], [], [-12.0, NAN, -INF], [], []]
IDS = {
    "one plane": (65536, [0, 1, 255, 256, 65535]),
    "two planes": (151936, [0, 65535, 65536, 151935, 131072]),
    "largest head": (1 << 24, [0, (1 << 24) - 1, 1 << 16]),
}
STATES = [[0.0, 1.0, -2.5, 0.333251953125], [65504.0, -6e-8, 1e-30, 3.0]]


def shown(value: Any) -> Any:
    """JSON's form of values: null and "-inf"."""
    if isinstance(value, list):
        return [shown(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "-inf"
    return value


def joined(rows: list[list[float]]) -> list[float]:
    return [x for row in rows for x in row]


def lists_case(name: str, rows: list[list[float]], grade: int) -> dict[str, Any]:
    rows = [[f32(x) for x in row] for row in rows]
    bases, steps, clipped, bound = b"", b"", 0, 0.0
    if grade == F32:
        values = ref.encode_f32(rows)
        flat = ref.decode_f32(values)
    elif grade == F16:
        values, clipped, bound = ref.encode_f16(rows)
        flat = ref.decode_f16(values)
    else:
        values, bases, steps, clipped, bound = ref.encode_u8(rows)
        flat = joined(ref.decode_u8(values, bases, steps, [len(row) for row in rows]))
    planes = {"values": values.hex(), "bases": bases.hex(), "steps": steps.hex()}
    return {
        "name": name,
        "grade": grade,
        "rows": shown(rows),
        **planes,
        "clipped": clipped,
        "error_bound_nats": bound,
        "decoded": shown(flat),
    }


def ids_case(name: str, head_rows: int, ids: list[int]) -> dict[str, Any]:
    low, high = ref.encode_ids(ids, head_rows)
    return {"name": name, "head_rows": head_rows, "ids": ids, "low": low.hex(), "high": high.hex()}


def hidden_planes() -> list[dict[str, Any]]:
    """The same states in each dtype, with what each dtype keeps of them."""
    flat = [f32(x) for row in STATES for x in row]
    bf16 = b"".join(ref.bf16_bits(x).to_bytes(2, "little") for x in flat)
    f16 = ref.encode_f16([flat])[0]
    planes = {1: (ref.encode_f32([flat]), ref.decode_f32), 2: (f16, ref.decode_f16), 3: (bf16, ref.decode_bf16)}
    return [
        {"dtype": dtype, "rows": 2, "width": 4, "values": plane.hex(), "decoded": decode(plane)}
        for dtype, (plane, decode) in planes.items()
    ]


def columns() -> dict[str, Any]:
    lists = [lists_case(name, rows, grade) for name, rows in LISTS.items() for grade in (F32, F16, U8)]
    ragged = [lists_case("ragged, with empty rows", RAGGED, grade) for grade in (F32, F16, U8)]
    lengths = [len(row) for row in RAGGED]
    return {
        "lists": lists + ragged,
        "ids": [ids_case(name, head, ids) for name, (head, ids) in IDS.items()],
        "offsets": [{"lengths": ls, "plane": ref.encode_offsets(ls).hex()} for ls in ([], [0], lengths, [70000, 1])],
        "hidden": hidden_planes(),
    }


def rows_message() -> dict[str, Any]:
    """Three rows, the second beyond what the provider returns: f16 top-k, ragged u8 candidates, f32 samples, bf16 states."""
    validity = bytes([OK, MISSING_CAP, OK])
    sampled, tail = [-1.3862944, NAN, -0.0078125], [-3.25, NAN, -INF]
    topk, topk_ids = [[-0.5, -1.75], [NAN, NAN], [-0.0078125, -9.3]], [11, 65536, 0, 0, 151935, 42]
    candidates = [[-2.0, -26.5, -INF], [NAN], []]
    samples, sample_ids = [[-1.1], [NAN], [-0.0078125]], [65537, 0, 151935]
    states = [f32(x) for x in [0.5, -1.0, NAN, NAN, 3.140625, -0.0001]]

    sampled, tail = [[f32(x) for x in column] for column in (sampled, tail)]
    topk_plane = ref.encode_f16([[f32(x) for x in row] for row in topk])[0]
    topk_low, topk_high = ref.encode_ids(topk_ids, 151936)
    codes, bases, steps, _, _ = ref.encode_u8(candidates)
    lengths = [len(row) for row in candidates]
    samples_plane = ref.encode_f32([[f32(x) for x in row] for row in samples])
    sample_low, sample_high = ref.encode_ids(sample_ids, 151936)
    states_plane = b"".join(ref.bf16_bits(x).to_bytes(2, "little") for x in states)
    encoded = message(
        (1, 128),
        (2, 3),
        (3, validity),
        (4, ref.encode_f32([sampled])),
        (6, ref.encode_f32([tail])),
        (7, message((1, F16), (2, 2), (4, topk_plane), (7, topk_low), (8, topk_high))),
        (8, message((1, U8), (3, ref.encode_offsets(lengths)), (4, codes), (5, bases), (6, steps))),
        (9, message((1, F32), (2, 1), (4, samples_plane), (7, sample_low), (8, sample_high))),
        (10, message((1, 3), (2, 2), (3, states_plane))),
    )
    decoded = {
        "start": 128,
        "count": 3,
        "validity": list(validity),
        "sampled": shown(sampled),
        "tail": shown(tail),
        "topk": {"width": 2, "ids": topk_ids, "logprobs": shown(ref.decode_f16(topk_plane))},
        "candidates": {
            "offsets": ref.decode_offsets(ref.encode_offsets(lengths)),
            "logprobs": shown(joined(ref.decode_u8(codes, bases, steps, lengths))),
        },
        "samples": {"width": 1, "ids": sample_ids, "logprobs": shown(ref.decode_f32(samples_plane))},
        "hidden": {"width": 2, "values": shown(ref.decode_bf16(states_plane))},
    }
    return {"name": "three rows of every kind", "head_rows": 151936, "message": encoded.hex(), "decoded": decoded}


def files() -> dict[str, str]:
    """Every golden file's name and text."""
    contents = {"columns.json": columns(), "rows.json": [rows_message()]}
    return {name: json.dumps(content, indent=1, allow_nan=False) + "\n" for name, content in contents.items()}


if __name__ == "__main__":
    for name, text in files().items():
        (HERE / name).write_text(text, encoding="utf-8")
