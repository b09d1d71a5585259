"""/livez, /readyz and /metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from preceptor_serving.auth.identity import Scope
from preceptor_serving.doors.rest_routes import door_router, needs
from preceptor_serving.frame.frame import Frame
from preceptor_serving.metrics import CONTENT_TYPE

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health", "/health/", "/openapi.json"})
"""Routes that ask for no key: they tell nothing but the state and the public protocol."""


def open_probes() -> APIRouter:
    """The probes of orchestrators and load balancers."""
    router = APIRouter(tags=["probes"])

    @router.get("/livez")
    async def livez() -> dict[str, bool]:
        """200 while the process answers at all; restart it otherwise."""
        return {"alive": True}

    @router.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        """200 while requests are answered (`ready`, `degraded`), 503 otherwise, with the reasons."""
        frame: Frame = request.app.state.frame
        status = frame.lifecycle.status()
        body = {"state": status.state, "serving": status.serving, "reasons": status.reasons, "in_flight": frame.in_flight}
        return JSONResponse(body, status_code=200 if status.serving else 503)

    @router.get("/health")
    @router.get("/health/", include_in_schema=False)
    async def health(request: Request) -> Response:
        """The same without a body, where trainers look for it."""
        frame: Frame = request.app.state.frame
        return Response(status_code=200 if frame.lifecycle.status().serving else 503)

    return router


def metrics_router() -> APIRouter:
    """Prometheus' scrape target."""
    router = door_router()

    @router.get("/metrics", tags=["probes"])
    @needs(Scope.METRICS, always=True)
    async def metrics(request: Request) -> Response:
        """All counters in Prometheus' text format."""
        frame: Frame = request.app.state.frame
        return Response(frame.meters.text(), media_type=CONTENT_TYPE)

    return router
