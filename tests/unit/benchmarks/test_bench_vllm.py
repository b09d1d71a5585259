"""Both sides of the comparison with stock vLLM do the same work, and a part of the benchmark is one that can be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence as Items

import numpy as np
import pytest

from benchmarks.on_vllm.against_stock import SUFFIXES, Turns, difference, split_of
from benchmarks.on_vllm.items import ROWS, TOKENS, TOPK, candidate_items, checked, drawn, topk_items
from benchmarks.on_vllm.parts import PARTS
from benchmarks.on_vllm.stock import Reply, settings
from benchmarks.on_vllm.ways.found import Found, peak_of
from preceptor.types import IdLogprobs, ModelRef, Receipt, Rows, Scored, ScoreItem


def scored(best: float, rows: int = ROWS) -> Scored:
    top = IdLogprobs(np.zeros((rows, 1), np.uint32), np.full((rows, 1), best, np.float32))
    return Scored(Rows(start=0, validity=np.zeros(rows, np.uint8), topk=top), Receipt(ModelRef("teacher")))


def reply(best: float) -> Reply:
    row = {"1": {"logprob": best - 1}, "2": {"logprob": best}}
    return Reply([{"prompt_logprobs": [None, *([row] * ROWS)]}], body_bytes=TOKENS * 100)


class Stock:
    def __init__(self) -> None:
        self.asked = 0

    async def together(self, sequences: Items[list[int]]) -> Reply:
        self.asked += 1
        return Reply(reply(-0.5).choices * len(sequences), len(sequences) * TOKENS * 100)

    async def side_by_side(self, sequences: Items[list[int]]) -> Reply:
        await asyncio.sleep(0.05)
        return await self.together(sequences)


class Ours:
    async def score(self, _: str, items: Items[ScoreItem], *, deadline_s: float) -> list[Scored]:
        return [scored(-0.5) for _ in items]


def test_items_are_fresh_and_every_row_has_ids_of_its_own() -> None:
    sequences = drawn(1, 2)
    assert (drawn(2, 2) != sequences).any()
    for items in (topk_items(sequences), candidate_items(sequences)):
        assert [one.sequence.ids.tolist() for one in items] == sequences.tolist()
    lists = candidate_items(sequences)[0].want.candidates
    assert lists is not None
    rows = lists.ids.reshape(ROWS, TOPK)
    assert len({row.tobytes() for row in rows}) == ROWS


def test_another_best_token_is_seen_and_a_short_answer_is_refused() -> None:
    assert difference(reply(-0.5), [scored(-0.5)]) == 0.0
    assert difference(reply(-0.5), [scored(-0.75)]) == pytest.approx(0.25)
    with pytest.raises(RuntimeError, match="1 of 2"):
        checked([scored(-0.5), scored(-0.5, ROWS - 1)])


async def test_each_engine_is_held_against_the_faster_way_to_ask_stock() -> None:
    stock = Stock()
    turns = Turns(stock, dict.fromkeys(SUFFIXES, Ours()), ["topk", "candidates"])  # pyright: ignore[reportArgumentType]
    await turns.warm_up()
    assert turns.stock_way == "one request"
    asked = stock.asked
    for seed in (1, 2):
        await turns.take(seed, 2)
    assert stock.asked == asked + 2
    assert turns.speeds.keys() == {"stock", "hf topk", "hf candidates", "vllm topk", "vllm candidates"}
    stock_speeds, ours = turns.speeds["stock"], turns.speeds["vllm topk"]
    assert turns.ratios("vllm topk") == [mine / theirs for mine, theirs in zip(ours, stock_speeds, strict=True)]
    assert turns.bytes["stock"] == 100
    assert turns.apart_nats == 0.0


def test_what_is_said_of_the_settings_is_what_stock_is_started_with() -> None:
    said = settings(1 << 20)
    assert said[said.index("--kv-cache-memory-bytes") + 1] == str(1 << 20)
    assert {"p1.grpc", "p1.redis", "p2a", "p2b", "p4", "p5", "n1"} == PARTS.keys()
    assert split_of([scored(-0.5)]) == {"prefill": 0.0, "readout": 0.0, "serialise": 0.0}


def test_the_peak_is_above_what_was_held_before() -> None:
    found = Found("")
    with peak_of(found):
        plane = np.ones(32 << 20, np.uint8)
        assert plane.sum() == len(plane)
    assert found.peak_mib >= 24
