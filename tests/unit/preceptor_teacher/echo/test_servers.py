"""The `echo` engine against real servers: a teacher service of our own, asked over loopback in each dialect, and the stand-in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from examples.tiny.task import load
from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor.client import AsyncTeacherClient, ScoreItem
from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError, Unsupported
from preceptor.types import CacheTier, Grade, Scored, Sequence, TailOf, Want, Window
from preceptor_serving.engine_host.channel import EngineSpec
from preceptor_serving.engine_host.placement import in_this_process
from preceptor_serving.run import RunningService, running
from preceptor_teacher.catalog import TeacherSpec, read_teachers
from preceptor_teacher.service import TeacherService
from preceptor_teacher.testing import standing_in
from tests.support.models import BUNDLED_TEACHER

pytestmark = pytest.mark.skipif(not BUNDLED_TEACHER.exists(), reason="the bundled pair is not there")
NATS = 1e-4
HERE = ("127.0.0.1",)
PROBLEMS = load("heldout")[:3]
SEQUENCES = [Sequence.of(prompt_ids(one.prompt), text_ids(one.worked)) for one in PROBLEMS]
TURNS = Sequence.of_turns(
    [("context", prompt_ids("1+2")), ("response", text_ids("3")), ("context", text_ids("+4")), ("response", text_ids("=7"))]
)


def far(base_url: str, **options: Any) -> EngineSpec:
    shared = {"name": "far", "folder": BUNDLED_TEACHER, "base_url": base_url, "model": "near", "max_sequence_tokens": 200}
    return EngineSpec("far", "echo", {**shared, "private_hosts": HERE, **options})


NEAR = EngineSpec("near", "hf", {"name": "near", "folder": str(BUNDLED_TEACHER)})


@asynccontextmanager
async def service(spec: EngineSpec) -> AsyncGenerator[tuple[RunningService, AsyncTeacherClient]]:
    teacher = running(TeacherService((TeacherSpec(spec),), in_this_process), TeacherSettings(grpc_port=0, rest_port=0))
    async with teacher as house, AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
        yield house, client


async def scores(client: AsyncTeacherClient, name: str, want: Want, *sequences: Sequence) -> list[Scored]:
    found = await client.score(name, [ScoreItem(one, want) for one in sequences])
    assert all(isinstance(one, Scored) for one in found), found
    return [one for one in found if isinstance(one, Scored)]


async def assert_same(client: AsyncTeacherClient, direct: AsyncTeacherClient, want: Want) -> None:
    """What the far teacher says is what its model says where its weights are."""
    mine = await scores(client, "far", want, *SEQUENCES, TURNS)
    for ours, own in zip(mine, await scores(direct, "near", want, *SEQUENCES, TURNS), strict=True):
        assert (ours.receipt.model.name, ours.receipt.engine, ours.receipt.cache) == ("far", "echo", CacheTier.NONE)
        assert (ours.rows.start, ours.rows.validity.tolist()) == (own.rows.start, own.rows.validity.tolist())
        if want.sampled:
            assert ours.rows.sampled is not None
            assert own.rows.sampled is not None
            np.testing.assert_allclose(ours.rows.sampled, own.rows.sampled, rtol=0, atol=NATS)
        if want.topk:
            assert ours.rows.topk is not None
            assert own.rows.topk is not None
            np.testing.assert_array_equal(ours.rows.topk.ids, own.rows.topk.ids)
            np.testing.assert_allclose(ours.rows.topk.logprobs, own.rows.topk.logprobs, rtol=0, atol=NATS)


async def test_a_server_that_scores_given_ids_is_a_teacher_as_if_its_weights_were_here():
    async with service(NEAR) as (house, direct), standing_in(BUNDLED_TEACHER) as provider:
        root = f"http://127.0.0.1:{house.rest_port}"
        [theirs] = await direct.describe()
        for base, dialect, topk in (
            (f"{root}/v1", "vllm", 20),
            (root, "sglang", 20),
            (f"{root}/v1", "openai", 0),
            (provider.base_url, "openai", 0),
        ):
            async with service(far(base, dialect=dialect)) as (_, client):
                [mine] = await client.describe()
                assert (mine.tokenizer_sha256, mine.template_sha256) == (theirs.tokenizer_sha256, theirs.template_sha256)
                can = mine.capabilities
                assert (can.sampled, can.max_topk, can.echo_logprobs, can.tail) == (True, topk, True, False)
                for want in (
                    Want(sampled=True, topk=topk),
                    Want(sampled=True, window=Window(1, 2)),
                    *([Want(topk=3)] if topk else []),
                ):
                    await assert_same(client, direct, want)
                if dialect == "vllm":
                    await assert_refuses(client)


async def assert_refuses(client: AsyncTeacherClient) -> None:
    """What the server cannot give is refused, and not made up; what was asked once is asked again, as weights may change."""
    for want, field in (
        (Want(topk=21), "topk"),
        (Want(topk=2, tail=TailOf.TOPK), "tail"),
        (Want(entropy=True), "entropy"),
        (Want(samples=1), "samples"),
        (Want(sampled=True, next=True), "next"),
        (Want(sampled=True, temperature=0.5), "temperature"),
    ):
        [refused] = await client.score("far", [ScoreItem(SEQUENCES[0], want)])
        assert isinstance(refused, Unsupported)
        assert refused.field.endswith(f"want.{field}")
    for _ in range(2):
        [coarse] = await scores(client, "far", Want(topk=5, grade=Grade.U8), SEQUENCES[0])
        assert coarse.receipt.error_bound_nats > 0
        assert (coarse.receipt.cache, coarse.receipt.tokens_computed) == (CacheTier.NONE, len(SEQUENCES[0].ids))


async def test_an_address_that_the_operator_did_not_open_is_never_connected_to():
    async with standing_in(BUNDLED_TEACHER) as provider:
        with pytest.raises(ConfigurationError, match="no connection is made"):
            async with service(far(provider.base_url, private_hosts=())):
                pass
        assert provider.provider.seen.total() == 0


def test_a_teachers_file_names_one(tmp_path: Path):
    entry = {
        "engine": "echo",
        "folder": "t",
        "base_url": "http://h/v1",
        "model": "m",
        "max_sequence_tokens": 9,
        "api_key_file": "k",
    }
    file = tmp_path / "teachers.yaml"
    file.write_text(yaml.safe_dump({"teachers": {"far": entry}}))
    [spec] = read_teachers(file)
    assert isinstance(spec, TeacherSpec)
    assert (spec.engine.options["folder"], spec.engine.options["api_key_file"]) == (str(tmp_path / "t"), str(tmp_path / "k"))
    file.write_text(yaml.safe_dump({"teachers": {"far": {**entry, "price": 1}}}))
    with pytest.raises(ConfigurationError, match="has no option price"):
        read_teachers(file)
