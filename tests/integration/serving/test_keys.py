"""Keys on both doors: every route with every kind of key, and no trace of a key anywhere."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from fastapi.routing import APIRoute
from grpc_health.v1 import health_pb2, health_pb2_grpc

from preceptor.config import TeacherSettings
from preceptor.errors import PreceptorError
from preceptor.logs import configure_logs
from preceptor.rpc_errors import from_rpc
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import write_key_file
from preceptor_serving.auth.keys import mint_key
from preceptor_serving.doors.rest_probes import OPEN_PATHS
from preceptor_serving.run import RunningService, running
from tests.integration.serving.clients import channel, outcome
from tests.integration.serving.processes import rest_client
from tests.integration.serving.score_service import ScoreService

BODY = {"context": [1, 2], "response": [3, 4]}
REFUSALS = {
    "none": "UNAUTHENTICATED",
    "unknown": "UNAUTHENTICATED",
    "wrong secret": "UNAUTHENTICATED",
    "malformed": "UNAUTHENTICATED",
    "expired": "UNAUTHENTICATED",
    "revoked": "UNAUTHENTICATED",
    "wrong scope": "PERMISSION_DENIED",
}


@dataclass(frozen=True)
class Ring:
    """One good key, and one of every kind that is refused."""

    good: str
    bad: dict[str, str | None]

    @property
    def secrets(self) -> list[str]:
        return [key.rpartition("_")[2] for key in (self.good, *self.bad.values()) if key]


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    scopes = frozenset({Scope.SCORE, Scope.METRICS})
    good, good_record = mint_key("acme", scopes)
    expired, expired_record = mint_key("acme", scopes, expires=datetime(2020, 1, 1, tzinfo=UTC))
    revoked, revoked_record = mint_key("acme", scopes)
    wrong_scope, wrong_scope_record = mint_key("acme", frozenset({Scope.TRAIN}))
    records = [good_record, expired_record, replace(revoked_record, revoked=True), wrong_scope_record]
    write_key_file(tmp_path / "keys.yaml", records)
    bad = {
        "none": None,
        "unknown": mint_key("acme", scopes)[0],
        "wrong secret": f"{good.rpartition('_')[0]}_{'c' * 32}",
        "malformed": "canary-that-is-no-key",
        "expired": expired,
        "revoked": revoked,
        "wrong scope": wrong_scope,
    }
    return Ring(good, bad)


@pytest.fixture
def logged() -> Generator[io.StringIO]:
    """Everything that this process logs, as JSON."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logs("teacher", log_format="json", level="debug", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


@pytest.fixture
async def service(ring: Ring, tmp_path: Path, logged: io.StringIO) -> AsyncGenerator[RunningService]:
    settings = TeacherSettings(grpc_port=0, rest_port=0, key_file=tmp_path / "keys.yaml")
    async with running(ScoreService(inline=True), settings) as served:
        yield served


def rest_routes(service: RunningService) -> list[tuple[str, str]]:
    """(method, path) of every route that asks for a key, read off the application."""
    app = service.rest_app
    return [(method, r.path) for r in app.routes if isinstance(r, APIRoute) and r.path not in OPEN_PATHS for method in r.methods]


def grpc_methods(service: RunningService) -> list[str]:
    """The full name of every call, read off the protocol."""
    described = [offered.descriptor for offered in service.service.grpc_services()]
    return [f"/{d.full_name}/{method.name}" for d in described for method in d.methods]


async def test_every_rest_route_refuses_every_wrong_key(service: RunningService, ring: Ring) -> None:
    assert len(rest_routes(service)) >= 2
    async with rest_client() as client:
        for method, path in rest_routes(service):
            for kind, key in ring.bad.items():
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                reply = await client.request(method, f"http://127.0.0.1:{service.rest_port}{path}", headers=headers, json=BODY)
                assert reply.json()["code"] == REFUSALS[kind], (path, kind)
                assert reply.status_code == (403 if kind == "wrong scope" else 401)
                assert ("www-authenticate" in reply.headers) is (reply.status_code == 401)


async def test_every_grpc_call_refuses_every_wrong_key(service: RunningService, ring: Ring) -> None:
    async with channel(service.grpc_port) as opened:
        for method in grpc_methods(service):
            for kind, key in ring.bad.items():
                metadata = (("authorization", f"Bearer {key}"),) if key else ()
                with pytest.raises(grpc.aio.AioRpcError) as failure:
                    await opened.unary_unary(method)(b"", metadata=metadata)
                error: PreceptorError = from_rpc(failure.value)
                assert error.code.value == REFUSALS[kind], (method, kind)


async def test_every_way_to_send_a_good_key_works(service: RunningService, ring: Ring) -> None:
    base = f"127.0.0.1:{service.rest_port}"
    async with rest_client() as client:
        for url, headers in (
            (f"http://{base}/v1/score", {"Authorization": f"Bearer {ring.good}"}),
            (f"http://{base}/v1/score", {"X-API-Key": ring.good}),
            (f"http://{base}/k/{ring.good}/v1/score", {}),
            (f"http://{ring.good}@{base}/v1/score", {}),
            (f"http://me:{ring.good}@{base}/v1/score", {}),
        ):
            assert (await client.post(url, headers=headers, json=BODY)).status_code == 200
    async with channel(service.grpc_port) as opened:
        assert await outcome(opened, key=ring.good) == "OK"


async def test_probes_ask_for_no_key(service: RunningService) -> None:
    async with rest_client() as client:
        for path in OPEN_PATHS:
            assert (await client.get(f"http://127.0.0.1:{service.rest_port}{path}")).status_code == 200
    async with channel(service.grpc_port) as opened:
        reply = await health_pb2_grpc.HealthStub(opened).Check(health_pb2.HealthCheckRequest())
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_no_key_is_found_in_logs_metrics_or_errors(service: RunningService, ring: Ring, logged: io.StringIO) -> None:
    base, told = f"127.0.0.1:{service.rest_port}", list[str]()
    async with rest_client() as client, channel(service.grpc_port) as opened:
        for key in (ring.good, *(key for key in ring.bad.values() if key)):
            for path in ("/v1/score", f"/k/{key}/v1/score", f"/k/{key}/nowhere", f"/k/{key}/v1/score?key={key}"):
                for headers in ({}, {"Authorization": f"Bearer {key}"}, {"Authorization": f"Weird {key}"}, {"X-API-Key": key}):
                    reply = await client.post(f"http://{base}{path}", json=BODY, headers=headers)
                    told.append(reply.text + str(reply.headers))
            told.append((await client.post(f"http://{key}:{key}@{base}/v1/score", json=BODY)).text)
            try:
                await opened.unary_unary("/preceptor.v1.Teacher/Score")(b"", metadata=(("x-api-key", key), ("x-request-id", "r")))
            except grpc.aio.AioRpcError as failure:
                told.append(repr(failure) + repr(failure.trailing_metadata()))
        told.append((await client.get(f"http://{base}/metrics", headers={"X-API-Key": ring.good})).text)
    told.append(logged.getvalue())
    assert "preceptor_requests_total" in told[-2]
    assert '"tenant": "acme"' in told[-1]
    for secret in ring.secrets:
        assert all(secret not in text for text in told)
