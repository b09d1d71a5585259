"""`python -m benchmarks.bench_codec`: the speed (P1b) and size (P3) of our columns against vLLM-style JSON of the same scores.

Ours is the whole way of a reply: arrays -> `Rows` -> bytes -> `Rows` -> arrays, with validity, sampled and tail, in each grade;
the slowest grade counts. The opponent gets its best known settings: `prompt_logprobs` as vLLM nests them, one reply a
sequence, written and read by orjson. P1b counts only its dumps and loads, from a ready-made tree of Python objects into another;
building that tree from arrays, getting arrays out of it again, and the standard library's json stand beside it in the detail.
"""

from __future__ import annotations

import gc
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.results import Result, write_results
from preceptor.codec import Grade
from preceptor.types import IdLogprobs, RaggedLogprobs, Rows
from preceptor.wire.rows import rows_from_proto, rows_to_proto
from preceptor_proto.v1 import common_pb2

SEQUENCES, ROWS, TOPK, VOCABULARY = 32, 512, 64, 151_936
REPEATS, STDLIB_SEQUENCES, SMALL_CALLS = 5, 4, 2000
WORDS = [f" w{token:x}" for token in range(VOCABULARY)]
TAIL_SHARE = 0.05

T = TypeVar("T")


def random_rows(rng: np.random.Generator, count: int, topk: int) -> Rows:
    """Scores as a language model gives them: a peaked head, a falling tail, distinct ids in every row."""
    logits = rng.gumbel(size=(count, topk)) - 2.4 * np.log(np.arange(1, topk + 1))
    logits = -np.sort(-logits, axis=1)
    logprobs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)) + np.log1p(-TAIL_SHARE)).astype(np.float32)
    ids = (rng.integers(0, VOCABULARY, (count, 1)) + np.arange(topk) * 2374) % VOCABULARY
    return Rows(
        start=0,
        validity=np.zeros(count, np.uint8),
        sampled=logprobs[:, 0].copy(),
        tail=np.full(count, np.log(TAIL_SHARE), np.float32),
        topk=IdLogprobs(ids.astype(np.uint32), logprobs),
    )


def ours_write(rows: Rows, grade: Grade) -> bytes:
    return rows_to_proto(rows, grade, VOCABULARY)[0].SerializeToString()


def ours_read(reply: bytes) -> Rows:
    return rows_from_proto(common_pb2.Rows.FromString(reply), head_rows=VOCABULARY)


def vllm_tree(rows: Rows) -> dict[str, Any]:
    """The reply's objects: one map a token, from id to log-probability, rank and text."""
    assert rows.topk is not None
    listed = [
        {
            str(i): {"logprob": x, "rank": rank, "decoded_token": WORDS[i]}
            for rank, (i, x) in enumerate(zip(ids, values, strict=True), 1)
        }
        for ids, values in zip(rows.topk.ids.tolist(), rows.topk.logprobs.tolist(), strict=True)
    ]
    return {"object": "text_completion", "model": "teacher", "choices": [{"index": 0, "text": "", "prompt_logprobs": listed}]}


def vllm_arrays(tree: dict[str, Any]) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """What a trainer needs from those objects."""
    listed = tree["choices"][0]["prompt_logprobs"]
    ids = np.fromiter((int(key) for row in listed for key in row), np.uint32).reshape(len(listed), -1)
    values = np.fromiter((entry["logprob"] for row in listed for entry in row.values()), np.float32)
    return ids, values.reshape(len(listed), -1)


# ---------------------------------------------------------------- P1b: speed


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds of each step, one entry for each sequence and repeat."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def of(self, name: str, step: Callable[[], T]) -> T:
        """The step's result; its time is kept under the name."""
        started = time.perf_counter()
        result = step()
        self.seconds.setdefault(name, []).append(time.perf_counter() - started)
        return result

    def tokens_per_s(self, *names: str) -> float:
        """Rows a second through all the named steps, each at its median."""
        return ROWS / sum(median(self.seconds[name]) for name in names)


@contextmanager
def without_gc() -> Iterator[None]:
    """No collection inside a measurement: it would fall on whoever made more objects, which is JSON."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def time_sequence(rows: Rows, with_stdlib: bool, timings: Timings) -> None:
    """Both sides on the same scores, one after the other, so that a noisy moment hits both."""
    for grade in Grade:
        reply = timings.of(f"{grade} write", lambda grade=grade: ours_write(rows, grade))
        timings.of(f"{grade} read", lambda reply=reply: ours_read(reply))
    tree = timings.of("build", lambda: vllm_tree(rows))
    text = timings.of("orjson dumps", lambda: orjson.dumps(tree))
    parsed = timings.of("orjson loads", lambda: orjson.loads(text))
    timings.of("extract", lambda: vllm_arrays(parsed))
    if with_stdlib:
        plain = timings.of("json dumps", lambda: json.dumps(tree, separators=(",", ":")))
        timings.of("json loads", lambda: json.loads(plain))


def measure_speed(batch: list[Rows]) -> dict[str, Any]:
    """Tokens a second of every way."""
    timings = Timings()
    time_sequence(batch[0], True, Timings())  # warm up
    for _ in range(REPEATS):
        for index, rows in enumerate(batch):
            with without_gc():
                time_sequence(rows, index < STDLIB_SEQUENCES, timings)
    speed = {f"ours_{grade}": timings.tokens_per_s(f"{grade} write", f"{grade} read") for grade in Grade}
    speed["orjson"] = timings.tokens_per_s("orjson dumps", "orjson loads")
    speed["orjson_from_and_to_arrays"] = timings.tokens_per_s("build", "orjson dumps", "orjson loads", "extract")
    speed["stdlib_json"] = timings.tokens_per_s("json dumps", "json loads")
    speed["stdlib_json_from_and_to_arrays"] = timings.tokens_per_s("build", "json dumps", "json loads", "extract")
    return {name: round(value) for name, value in speed.items()}


def speed_result(batch: list[Rows], losses: dict[str, float]) -> Result:
    speed = measure_speed(batch)
    ours = min(speed[f"ours_{grade}"] for grade in Grade)
    detail = {
        "tokens_per_s": speed,
        "over_orjson": {str(grade): round(speed[f"ours_{grade}"] / speed["orjson"], 1) for grade in Grade},
        "over_orjson_from_and_to_arrays": round(ours / speed["orjson_from_and_to_arrays"], 1),
        "over_stdlib_json": round(ours / speed["stdlib_json"], 1),
        "bytes_per_token": {str(grade): len(ours_write(batch[0], grade)) / ROWS for grade in Grade}
        | {"json": len(orjson.dumps(vllm_tree(batch[0]))) / ROWS},
        "sequences": SEQUENCES,
        "rows": ROWS,
        "k": TOPK,
        "vocabulary": VOCABULARY,
        "orjson": orjson.__version__,
        "where_we_lose": losses,
    }
    return Result(
        "P1b",
        "tokens/s over vLLM-style JSON (orjson dumps + loads alone), slowest grade",
        ours / speed["orjson"],
        20,
        "higher",
        detail,
    )


def measure_losses(rng: np.random.Generator) -> dict[str, float]:
    """Microseconds of one row with one entry, there and back; and sizes under gzip, where JSON gains most."""
    single, full = random_rows(rng, 1, 1), random_rows(rng, ROWS, TOPK)
    tree = vllm_tree(single)
    with without_gc():
        return {
            "one_row_k1_ours_us": microseconds(lambda: ours_read(ours_write(single, Grade.F32))),
            "one_row_k1_orjson_us": microseconds(lambda: orjson.loads(orjson.dumps(tree))),
            "gzip_shrinks_ours_by": shrink(ours_write(full, Grade.F16)),
            "gzip_shrinks_json_by": shrink(orjson.dumps(vllm_tree(full))),
        }


def microseconds(call: Callable[[], object]) -> float:
    timings = Timings()
    for _ in range(SMALL_CALLS):
        timings.of("call", call)
    return round(median(timings.seconds["call"]) * 1e6, 2)


def shrink(data: bytes) -> float:
    return round(len(data) / len(gzip.compress(data, 6)), 2)


# ---------------------------------------------------------------- P3: size


def candidates_of(rows: Rows) -> Rows:
    """The same scores as answers to the caller's own lists."""
    assert rows.topk is not None
    offsets = np.arange(0, (rows.count + 1) * TOPK, TOPK, dtype=np.uint32)
    ragged = RaggedLogprobs(offsets, rows.topk.logprobs.ravel())
    return replace(rows, topk=None, sampled=None, candidates=ragged)


def size_results(rows: Rows) -> list[Result]:
    """Bytes of a serialised message of 512 rows, divided by its rows."""
    topk = replace(rows, sampled=None)
    candidates = candidates_of(rows)
    sampled = replace(rows, topk=None, tail=None)
    cases = [
        ("P3.topk_f16", "top-k f16, tail, validity", topk, Grade.F16, 332),
        ("P3.topk_u8", "top-k u8, tail, validity", topk, Grade.U8, 268),
        ("P3.cand_f16", "candidates f16, tail, validity", candidates, Grade.F16, 136),
        ("P3.cand_u8", "candidates u8, tail, validity", candidates, Grade.U8, 76),
        ("P3.sampled", "sampled, validity", sampled, Grade.F32, 6),
    ]
    detail = {"rows": rows.count, "k": TOPK, "vocabulary": VOCABULARY}
    return [
        Result(name, f"bytes a row: {what}", len(ours_write(scores, grade)) / rows.count, bar, "lower", detail)
        for name, what, scores, grade, bar in cases
    ]


def notes(result: Result) -> list[str]:
    detail, losses = result.detail, result.detail["where_we_lose"]
    over = ", ".join(f"{grade} {ratio}x" for grade, ratio in detail["over_orjson"].items())
    return [
        f"tokens/s: {detail['tokens_per_s']}",
        f"over orjson's dumps + loads: {over}; from arrays to arrays on both sides {detail['over_orjson_from_and_to_arrays']}x",
        f"bytes a token: {detail['bytes_per_token']}",
        f"where we lose: one row with k = 1 takes {losses['one_row_k1_ours_us']} us, JSON {losses['one_row_k1_orjson_us']} us, "
        "and people can read JSON; "
        f"gzip shrinks JSON {losses['gzip_shrinks_json_by']}x and our f16 {losses['gzip_shrinks_ours_by']}x",
    ]


def main() -> None:
    rng = np.random.default_rng(7)
    batch = [random_rows(rng, ROWS, TOPK) for _ in range(SEQUENCES)]
    speed = speed_result(batch, measure_losses(rng))
    write_results("codec", [speed, *size_results(batch[0])], notes(speed))


if __name__ == "__main__":
    main()
