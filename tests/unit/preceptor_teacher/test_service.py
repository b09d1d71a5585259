"""The teacher service over fake engines: every door reaches one scheduler, every refusal is named, one bad item fails alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest

from preceptor import wire
from preceptor.client import AsyncTeacherClient, ScoreItem, ScoreOptions, TeacherClient
from preceptor.config import TeacherSettings
from preceptor.errors import (
    DeadlineExceeded,
    EngineFailed,
    Exhausted,
    InvalidArgument,
    NotFound,
    PreceptorError,
    TooLarge,
    Unsupported,
    VersionGone,
    WrongPair,
)
from preceptor.types import Grade, ModelRef, RaggedIds, Scored, Sequence, TailOf, Want, Window
from preceptor_proto.v1 import teacher_pb2
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.inline import InlineEngine
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run import RunningService, running
from preceptor_teacher.boundary import Bounds, read_item, reply_bytes
from preceptor_teacher.catalog import TeacherSpec
from preceptor_teacher.pool import PoolPolicy
from preceptor_teacher.service import TeacherService

TOKENS = 61
NO_OPTIONS = ScoreOptions()
PLAIN = Sequence.of([1, 2, 3], [4, 5, 6, 7])


def spec(name: str, aliases: tuple[str, ...] = (), **options) -> TeacherSpec:
    return TeacherSpec(EngineSpec(name, "fake", {"name": name, **options}), aliases)


def inline(spec: EngineSpec, context) -> InlineEngine:
    return InlineEngine(lambda: FakeEngine(FakeOptions(**spec.options)))


@asynccontextmanager
async def teacher(*specs: TeacherSpec, policy: PoolPolicy | None = None, **settings) -> AsyncGenerator[RunningService]:
    service = TeacherService(specs or (spec("fake", ("default",)),), inline, policy)
    without_cache = {"score_cache_memory_bytes": 0, **settings}  # what is asked twice here is to be computed twice
    async with running(service, TeacherSettings(grpc_port=0, rest_port=0, **without_cache)) as house:
        yield house


def client_of(house: RunningService) -> AsyncTeacherClient:
    return AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}")


async def score(house: RunningService, *items: ScoreItem, name: str = "fake", options=NO_OPTIONS, deadline_s=20.0):
    async with client_of(house) as client:
        return await client.score(name, items, options, deadline_s=deadline_s)


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the scheduler, which tells nobody
            await asyncio.sleep(0.01)


async def refused(house: RunningService, sequence: Sequence, want: Want) -> PreceptorError:
    """The error of the middle one of three items, whose neighbours are fine."""
    good = ScoreItem(PLAIN, Want(sampled=True))
    first, bad, last = await score(house, good, ScoreItem(sequence, want), good)
    assert isinstance(first, Scored)
    assert isinstance(last, Scored)
    assert isinstance(bad, PreceptorError), bad
    return bad


async def test_describe_and_score_by_name_and_alias():
    async with teacher(spec("one", ("default",)), spec("two", tokenizer_size=32, head_rows=32)) as house:
        async with client_of(house) as client:
            infos = await client.describe()
            assert [(info.model.name, info.aliases) for info in infos] == [("one", ("default",)), ("two", ())]
            assert [info.model.name for info in await client.describe("default")] == ["one"]
        by_name, by_alias = [(await score(house, ScoreItem(PLAIN, Want(sampled=True)), name=n))[0] for n in ("one", "default")]
        assert np.array_equal(by_name.rows.sampled, by_alias.rows.sampled)
        assert by_name.receipt.model == infos[0].model


async def test_what_comes_back_is_what_the_engine_computes_in_every_grade():
    engine = FakeEngine(FakeOptions(name="fake"))
    lists = RaggedIds.from_rows([[5, 1], [], [2], [0, 60]])
    async with teacher() as house:
        for grade in Grade:
            want = Want(True, 4, lists, entropy=True, tail=TailOf.UNION, samples=3, sample_seed=5, hidden=True, grade=grade)
            [got] = await score(house, ScoreItem(PLAIN, want))
            [expected] = engine.score([ScoreItem(PLAIN, want)])
            assert np.array_equal(got.rows.sampled, expected.rows.sampled)
            assert np.array_equal(got.rows.topk.ids, expected.rows.topk.ids)
            assert np.array_equal(got.rows.hidden.states, expected.rows.hidden.states)
            bound = got.receipt.error_bound_nats + 1e-9
            assert np.allclose(got.rows.topk.logprobs, expected.rows.topk.logprobs, rtol=0, atol=bound)
            assert np.allclose(got.rows.candidates.row(0), expected.rows.candidates.row(0), rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("sequence", "want", "error", "field", "value", "limit"),
    [
        (Sequence.of([1, TOKENS], [2]), Want(sampled=True), InvalidArgument, "sequence.segments[0].context[1]", "61", "< 61"),
        (Sequence.of([1], [2, TOKENS]), Want(sampled=True), InvalidArgument, "sequence.segments[1].response[1]", "61", "< 61"),
        (PLAIN, Want(topk=TOKENS + 1), Unsupported, "want.topk", "62", "61"),
        (PLAIN, Want(samples=4097), InvalidArgument, "want.samples", "4097", "<= 4096"),
        (PLAIN, Want(sampled=True, temperature=math.nan), InvalidArgument, "want.temperature", "nan", "a finite number"),
        (PLAIN, Want(sampled=True, temperature=-0.5), InvalidArgument, "want.temperature", "-0.5", "> 0"),
        (PLAIN, Want(sampled=True, window=Window(0, 5)), InvalidArgument, "want.window", "0..5", "0 <= start <= end <= 4"),
        (PLAIN, Want(candidates=RaggedIds.from_rows([[1]] * 3)), InvalidArgument, "want.candidates", "3 lists", "4 lists"),
        (PLAIN, Want(candidates=RaggedIds.from_rows([[62]] * 4)), InvalidArgument, "want.candidates.ids", "62", "< 61"),
        (Sequence.of([1] * 60, [1] * 5), Want(sampled=True), TooLarge, "sequence", "65 tokens", "<= 64 tokens"),
        (Sequence.of_turns([("response", [1])]), Want(sampled=True), InvalidArgument, "sequence.segments[0]", None, None),
        (PLAIN, Want(log_candidates=True), InvalidArgument, "want.log_candidates", "true", "false"),
        (PLAIN, Want(tail=TailOf.TOPK), InvalidArgument, "want.tail", "topk", "a want with topk"),
    ],
)
async def test_a_wrong_item_is_refused_by_field_value_and_limit_and_fails_alone(sequence, want, error, field, value, limit):
    async with teacher(max_sequence_tokens=64) as house:
        try:
            got = await refused(house, sequence, want)
        except InvalidArgument as whole:  # the protocol's own limits refuse the message before anybody reads its items
            got = whole
        assert isinstance(got, error)
        assert got.field == f"items[1].{field}"
        assert (value, limit) in [(got.value, got.limit), (None, None)]


@pytest.mark.parametrize(("tokens", "ok"), [(63, True), (64, True), (65, False)])
async def test_the_length_limit_holds_to_the_token(tokens, ok):
    async with teacher(max_sequence_tokens=64) as house:
        [got] = await score(house, ScoreItem(Sequence.of([1] * (tokens - 1), [2]), Want(sampled=True)))
        assert isinstance(got, Scored if ok else TooLarge)


async def test_a_reply_that_could_not_be_sent_is_not_computed():
    async with teacher(max_message_bytes=1 << 20) as house:
        long = Sequence.of([1], [2] * 4000)
        [got] = await score(house, ScoreItem(long, Want(topk=TOKENS)))
        assert isinstance(got, TooLarge)
        assert (got.field, got.limit) == ("items[0].want", "<= 1048576 bytes")


async def test_items_whose_rows_do_not_go_into_one_reply_are_not_computed():
    async with teacher(max_message_bytes=1 << 20) as house:
        half = ScoreItem(Sequence.of([1], [2] * 1600), Want(topk=TOKENS))
        with pytest.raises(TooLarge) as refusal:
            await score(house, half, half)
        assert (refusal.value.field, refusal.value.limit) == ("items", "<= 1048576 bytes")
        assert not house.service.find("fake").pool.channel.engine.calls
        assert isinstance((await score(house, half))[0], Scored)


@pytest.mark.parametrize("grade", Grade)
async def test_the_size_of_a_reply_is_known_before_it_is_computed(grade):
    sequence = Sequence.of([1], [2] * 200)
    lists = RaggedIds.from_rows([[3, 4, 5][: n % 4] for n in range(200)])
    seed = {"samples": 2, "sample_seed": 3}
    async with teacher() as house:
        info = house.service.find("fake").pool.info
        for want in (
            Want(sampled=True),
            Want(topk=7, grade=grade),
            Want(entropy=True, candidates=lists, topk=2, tail=TailOf.UNION, grade=grade, **seed),
        ):
            [got] = await score(house, ScoreItem(sequence, want))
            rows, _ = wire.rows_to_proto(got.rows, grade, info.head_rows)
            item = teacher_pb2.ScoreItem(sequence=wire.sequence_to_proto(sequence), want=wire.want_to_proto(want))
            said = reply_bytes(item.want, read_item(item, info, (), Bounds(1, 1 << 20, 1 << 30)), info)
            assert said <= rows.ByteSize() <= said + 80  # names and lengths of columns


async def test_an_unknown_teacher_is_answered_with_the_nearest_names():
    async with teacher(spec("qwen-7b"), spec("llama")) as house:
        with pytest.raises(NotFound) as unknown:
            await score(house, ScoreItem(PLAIN, Want(sampled=True)), name="qwen-7")
        assert (unknown.value.field, unknown.value.value) == ("teacher.teacher", "qwen-7")
        assert "qwen-7b" in unknown.value.hint


async def test_a_wrong_pair_is_told_both_digests_before_any_work():
    async with teacher() as house:
        async with client_of(house) as client:
            [info] = await client.describe("fake")
        for field in ("tokenizer_sha256", "template_sha256"):
            right = ScoreOptions(**{field: getattr(info, field)})
            assert isinstance((await score(house, ScoreItem(PLAIN, Want(sampled=True)), options=right))[0], Scored)
            with pytest.raises(WrongPair) as wrong:
                await score(house, ScoreItem(PLAIN, Want(sampled=True)), options=ScoreOptions(**{field: b"\x07" * 32}))
            assert (wrong.value.field, wrong.value.value) == (field, "07" * 32)
            assert wrong.value.limit == getattr(info, field).hex()


async def test_a_version_that_is_not_served_is_gone_by_name():
    async with teacher() as house:
        gone = ScoreOptions(version=ModelRef("fake", run="r", step=9))
        with pytest.raises(VersionGone) as error:
            await score(house, ScoreItem(PLAIN, Want(sampled=True)), options=gone)
        assert error.value.value == "step 9"


async def test_who_could_serve_an_unsupported_want_is_named():
    async with teacher(spec("small", tokenizer_size=20, head_rows=20), spec("large")) as house:
        [got] = await score(house, ScoreItem(PLAIN, Want(topk=40)), name="small")
        assert isinstance(got, Unsupported)
        assert "large" in got.hint


async def test_too_many_items_are_refused_as_one():
    async with teacher(max_batch_items=2) as house:
        with pytest.raises(TooLarge) as error:
            await score(house, *[ScoreItem(PLAIN, Want(sampled=True))] * 3)
        assert (error.value.field, error.value.value, error.value.limit) == ("items", "3 items", "<= 2 items")


async def test_a_full_queue_refuses_the_whole_request_with_its_place():
    slow = spec("fake", tokens_per_s=20.0)
    async with teacher(slow, policy=PoolPolicy(batch_tasks=1, calls_in_flight=1), max_queue_tasks=6) as house:
        item = ScoreItem(PLAIN, Want(sampled=True))
        first = asyncio.create_task(score(house, item, item, item))
        pool = house.service.find("fake").pool
        await until(lambda: pool.scheduler.running_tasks)
        with pytest.raises((Exhausted, DeadlineExceeded)) as full:
            await score(house, item, item, deadline_s=0.3)
        cause = full.value if isinstance(full.value, Exhausted) else full.value.__cause__
        assert isinstance(cause, Exhausted)
        assert cause.retry_after_s > 0
        assert cause.queue_position is not None
        assert all(isinstance(result, Scored) for result in await first)


async def test_a_caller_who_leaves_takes_his_queued_work_with_him():
    async with teacher(spec("fake", tokens_per_s=30.0), policy=PoolPolicy(batch_tasks=1, calls_in_flight=1)) as house:
        pool = house.service.find("fake").pool
        with pytest.raises(DeadlineExceeded):
            await score(house, *[ScoreItem(PLAIN, Want(sampled=True))] * 8, deadline_s=0.4)
        await until(lambda: not (pool.scheduler.waiting_tasks or pool.scheduler.running_tasks))
        assert not pool._tickets


async def test_requests_of_several_callers_share_engine_calls():
    async with teacher(spec("fake", tokens_per_s=2000.0), policy=PoolPolicy(calls_in_flight=1)) as house:
        results = await asyncio.gather(*(score(house, ScoreItem(PLAIN, Want(sampled=True))) for _ in range(12)))
        assert all(isinstance(result[0], Scored) for result in results)
        calls = house.service.find("fake").pool.channel.engine.calls
        assert sum(len(call) for call in calls) == 12
        assert max(len(call) for call in calls) > 1


async def test_an_item_that_kills_the_engine_fails_alone_and_its_neighbours_are_answered():
    """In real processes: the batch dies, its items run alone, and only the killer dies again."""
    from preceptor_serving.engine_host.policy import HostPolicy
    from preceptor_serving.engine_host.watched import watched_host

    policy = HostPolicy(heartbeat_s=0.2, backoff_first_s=0.01, restart_wait_s=20.0)
    service = TeacherService([spec("fake", crash_token=60)], lambda spec, context: watched_host(spec, policy, context))
    async with running(service, TeacherSettings(grpc_port=0, rest_port=0)) as house:
        good, killer = ScoreItem(PLAIN, Want(sampled=True)), ScoreItem(Sequence.of([60], [1]), Want(sampled=True))
        first, dead, last = await score(house, good, killer, good, deadline_s=60.0)
        assert isinstance(dead, EngineFailed)
        assert isinstance(first, Scored)
        assert isinstance(last, Scored)


async def test_rest_scores_in_plain_json_and_equals_grpc():
    body = {
        "teacher": "fake",
        "items": [
            {"context": [1, 2, 3], "response": [4, 5, 6, 7]},
            {"context": [1], "response": [TOKENS]},
            {
                "segments": [{"kind": "context", "ids": [1]}, {"kind": "response", "ids": [2]}],
                "want": {"next": True, "sampled": True},
            },
        ],
        "want": {"sampled": True, "topk": 2, "candidates": [[5, 1], [], [2], [0]], "tail": "union"},
    }
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        answer = (await http.post("/v1/score", json=body)).json()
        lists = RaggedIds.from_rows(body["want"]["candidates"])
        want = Want(sampled=True, topk=2, candidates=lists, tail=TailOf.UNION)
        [expected] = await score(house, ScoreItem(PLAIN, want))
        first, refusal, last = answer["results"]
        assert first["rows"]["sampled"] == expected.rows.sampled.astype(float).tolist()
        assert first["rows"]["topk"]["ids"] == expected.rows.topk.ids.tolist()
        assert [len(row) for row in first["rows"]["candidates"]] == [2, 0, 1, 1]
        assert first["receipt"]["model"]["name"] == "fake"
        assert (refusal["error"]["code"], refusal["error"]["field"]) == (
            "INVALID_ARGUMENT",
            "items[1].sequence.segments[1].response[0]",
        )
        assert (last["rows"]["sampled"][-1], last["rows"]["has_next"]) == (None, True)
        names = [entry["name"] for entry in (await http.get("/v1/teachers")).json()["teachers"]]
        assert names == ["fake"]
        assert (await http.get("/v1/teachers/nope")).status_code == 404
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert {"/v1/score", "/v1/teachers"} <= paths.keys()


async def test_probability_zero_is_a_word_in_json():
    """At a temperature this cold everything but the best id has probability zero."""
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        body = {"teacher": "fake", "items": [{"context": [1], "response": [2]}], "want": {"topk": 61, "temperature": 1e-40}}
        rows = (await http.post("/v1/score", json=body)).json()["results"][0]["rows"]
        assert rows["topk"]["logprobs"][0][-1] == "-inf"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"items": [{"context": [1]}]}, "items[0]"),
        ({"items": [{"context": [-1], "response": [2]}]}, "items[0].context[0]"),
        ({"items": []}, "items"),
        ({"want": {"temperature": 0}}, "want.temperature"),
        ({"want": {"topK": 2}}, "want.topK"),
        ({"want": {"topk": 1 << 20}}, "items[0].want.topk"),
        ({"band": 8}, "band"),
    ],
)
async def test_rest_refuses_by_field(change, field):
    body = {"teacher": "fake", "items": [{"context": [1], "response": [2]}], **change}
    async with teacher() as house, httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}") as http:
        reply = await http.post("/v1/score", json=body)
        assert (reply.status_code, reply.json()["field"]) == (400, field)


async def test_the_sync_client_works_in_a_thread_and_names_its_twin_in_a_loop():
    async with teacher() as house:
        address = f"127.0.0.1:{house.grpc_port}"

        def blocking():
            with TeacherClient(address) as client:
                return client.describe(), client.score("fake", [ScoreItem(PLAIN, Want(sampled=True))])

        [info], [result] = await asyncio.to_thread(blocking)
        assert (info.model.name, result.rows.count) == ("fake", 4)
        with pytest.raises(InvalidArgument, match="event loop") as inside:
            TeacherClient(address)
        assert "AsyncTeacherClient" in inside.value.hint
