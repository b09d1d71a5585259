"""`preceptor teachers --check` on real services: replicas that agree, and every way in which one of them may not."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from preceptor.cli import run
from preceptor.cli import teachers as cli
from preceptor.client.agreement import HARDWARE_NATS, Replica, compare, probe_of, replicas_behind
from preceptor.errors import Unavailable
from preceptor.types import Want
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from tests.unit.preceptor_teacher.test_service import spec, teacher

PLAIN = FakeEngine(FakeOptions(name="fake")).describe()[0]


@pytest.fixture
def told(monkeypatch) -> list[Any]:
    """What the command prints, without the log lines that services in this process write to the same stdout."""
    found: list[Any] = []
    monkeypatch.setattr(cli, "print_json", lambda value: found.append(json.loads(json.dumps(value))))
    monkeypatch.setattr(cli, "print_table", lambda columns, rows: found.append([columns, *rows]))
    monkeypatch.setattr(cli, "quiet_logs", lambda _: None)
    return found


async def checked(told, *specs) -> tuple[int, list[dict[str, str]]]:
    """Exit code and verdicts of the command over one service for each list of teachers."""
    async with AsyncExitStack() as stack:
        houses = [await stack.enter_async_context(teacher(*one)) for one in specs]
        first, *others = [f"127.0.0.1:{house.grpc_port}" for house in houses]
        flags = [word for address in others for word in ("--check", address)] or ["--check-dns"]
        code = await asyncio.to_thread(run, ["teachers", "--teacher", first, *flags, "--json"])
    return code, told.pop()


async def test_replicas_of_one_configuration_agree(told):
    code, verdicts = await checked(told, [spec("fake")], [spec("fake")], [spec("fake")])
    assert code == 0
    assert [(one["status"], one["teacher"], one["what"]) for one in verdicts] == [("ok", "fake", "scores")] * 2


@pytest.mark.parametrize(
    ("other", "what", "found"),
    [
        (spec("fake", seed=1), "weights", "has step 0"),
        (spec("fake", tokenizer_size=60), "tokenizer_sha256", " has "),
        (spec("another"), "teachers", "has no such teacher"),
    ],
)
async def test_a_replica_that_is_another_teacher_is_named(told, other, what, found):
    code, verdicts = await checked(told, [spec("fake")], [other])
    assert code == 1
    assert {one["status"] for one in verdicts} == {"fail"}
    assert what in {one["what"] for one in verdicts}
    assert any(found in one["found"] for one in verdicts)


async def test_a_replica_that_refuses_the_probe_is_told_with_its_refusal(told):
    [token] = {int(one) for one in probe_of(PLAIN).ids[-1:]}
    code, [verdict] = await checked(told, [spec("fake")], [spec("fake", refuse_token=token)])
    assert (code, verdict["what"]) == (1, "probe")


async def test_every_check_asks_the_engines_and_no_cache(told):
    async with AsyncExitStack() as stack:
        houses = [await stack.enter_async_context(teacher(spec("fake"), score_cache_memory_bytes=1 << 20)) for _ in range(2)]
        first, second = (f"127.0.0.1:{house.grpc_port}" for house in houses)
        for _ in range(2):
            assert await asyncio.to_thread(run, ["teachers", "--teacher", first, "--check", second, "--json"]) == 0
        assert [len(house.service.find("fake").pool.channel.engine.calls) for house in houses] == [2, 2]


async def test_a_probe_that_a_cache_answered_is_no_agreement(told, monkeypatch):
    monkeypatch.setattr("preceptor.client.agreement._never_remembered", lambda info: Want(sampled=True))
    async with AsyncExitStack() as stack:
        houses = [await stack.enter_async_context(teacher(spec("fake"), score_cache_memory_bytes=1 << 20)) for _ in range(2)]
        first, second = (f"127.0.0.1:{house.grpc_port}" for house in houses)
        codes = [await asyncio.to_thread(run, ["teachers", "--teacher", first, "--check", second, "--json"]) for _ in range(2)]
    assert codes == [0, 1]
    assert "score cache" in told.pop()[0]["found"]


async def test_one_replica_alone_is_nothing_to_compare(told):
    code, [verdict] = await checked(told, [spec("fake")])
    assert (code, verdict["status"], verdict["what"]) == (0, "warn", "replicas")


async def test_the_list_of_teachers_has_names_digests_and_the_noise_floor(told):
    async with teacher(spec("one", ("default",)), spec("two")) as house:
        code = await asyncio.to_thread(run, ["teachers", "--teacher", f"127.0.0.1:{house.grpc_port}", "--json"])
        assert code == 0
        listed = told.pop()
        await asyncio.to_thread(run, ["teachers", "--teacher", f"127.0.0.1:{house.grpc_port}"])
        header, first, _ = told.pop()
    assert [(one["model"]["name"], one["aliases"], one["noise_floor_nats"]) for one in listed] == [
        ("one", ["default"], 0.0),
        ("two", [], 0.0),
    ]
    assert listed[0]["tokenizer_sha256"] == PLAIN.tokenizer_sha256.hex()
    row = dict(zip(header, first, strict=True))
    assert row["name"] == "one"
    assert row["tokenizer"] == PLAIN.tokenizer_sha256.hex()[:12]


def replica(address: str, probe, **fields) -> Replica:
    info = replace(PLAIN, **fields)
    return Replica(address, (info,), {info.model: np.asarray(probe, np.float32)})


def verdict_on(mine, its, floor: float | None = 1e-6, **fields):
    first = replica("a:1", mine, noise_floor_nats=floor)
    return compare([first, replica("b:1", its, noise_floor_nats=floor, **fields)])


def test_values_within_both_floors_agree_and_beyond_them_the_farthest_row_is_told_with_both_values():
    [close] = verdict_on([-1, -2, -3], [-1, -2.0000015, -3])
    assert close.status == "ok"
    [apart] = verdict_on([-1, -2, -3], [-1, -2.5, -3.1])
    assert (apart.status, apart.replica, apart.what) == ("fail", "b:1", "scores")
    assert "row 1: -2.5000000; a:1 says -2.0000000" in apart.found
    [rounding] = verdict_on([-1, -2, -3], [-1, -2 - HARDWARE_NATS / 2, -3])
    assert rounding.status == "warn"


def test_missing_and_impossible_values_agree_only_with_their_like():
    inf, nan = np.inf, np.nan
    assert verdict_on([-1, -inf], [-1, -inf])[0].status == "ok"
    assert verdict_on([-1, -inf], [-1, -50])[0].status == "fail"
    assert verdict_on([-1, -2], [-1, nan])[0].status == "fail"


def test_a_field_that_differs_is_named_with_both_values_although_the_scores_agree():
    verdicts = verdict_on([-1.0], [-1.0], tokenizer_sha256=b"\xab" * 32, engine_version="2")
    assert [(one.status, one.what) for one in verdicts] == [
        ("fail", "tokenizer_sha256"),
        ("fail", "engine_version"),
        ("ok", "scores"),
    ]
    assert verdicts[0].found == f"{'ab' * 6}; a:1 has {PLAIN.tokenizer_sha256.hex()[:12]}"


def test_scores_without_a_noise_floor_are_not_called_equal():
    [one] = verdict_on([-1.0], [-1.0], floor=None)
    assert one.status == "warn"


def test_the_probe_fits_small_vocabularies_and_short_models():
    small = replace(PLAIN, tokenizer_size=2, capabilities=replace(PLAIN.capabilities, max_sequence_tokens=9))
    probe = probe_of(small)
    assert len(probe.ids) == 9
    assert probe.row_count == 1
    assert int(probe.ids.max()) < 2


async def test_a_name_stands_for_all_of_its_addresses():
    assert await replicas_behind("127.0.0.1:50051") == ["127.0.0.1:50051"]
    assert "127.0.0.1:7" in await replicas_behind("dns:///localhost:7")
    assert await replicas_behind("unix:/tmp/x") == ["unix:/tmp/x"]
    with pytest.raises(Unavailable):
        await replicas_behind("no-such-host.invalid:1")
