"""The FastAPI application that every service is built on."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse

from preceptor._version import __version__
from preceptor.errors import ConfigurationError, Internal, PreceptorError
from preceptor_serving.doors.rest_errors import error_response, from_http
from preceptor_serving.doors.rest_intake import IntakeMiddleware
from preceptor_serving.doors.rest_probes import OPEN_PATHS, metrics_router, open_probes
from preceptor_serving.doors.rest_routes import FrameRoute, error_shape
from preceptor_serving.frame.call import REQUEST_ID_HEADER, Arrival, Door
from preceptor_serving.frame.frame import Frame

UNMATCHED = "unmatched"  # the method label of a request that met no route


def rest_app(name: str, routers: tuple[APIRouter, ...], frame: Frame) -> FastAPI:
    """An application with the service's routes, probes, metrics and errors; refuses a route that passes no frame."""
    app = FastAPI(title=f"Preceptor {name}", version=__version__, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False  # the place that it would send to lacks the key of the path
    app.state.frame = frame
    for router in (open_probes(), metrics_router(), *routers):
        app.router.routes.extend(router.routes)  # as they are: newer releases of FastAPI hide included ones behind a mount
    _refuse_unframed(app)
    app.add_middleware(IntakeMiddleware, frame=frame)
    app.add_exception_handler(PreceptorError, _told)
    app.add_exception_handler(StarletteHTTPException, _unmatched)
    app.add_exception_handler(Exception, _defect)
    return app


def _refuse_unframed(app: FastAPI) -> None:
    for route in app.routes:
        path = getattr(route, "path", "")
        if path not in OPEN_PATHS and not isinstance(route, FrameRoute):
            raise ConfigurationError(
                f"route {path} passes no frame", field="routers", value=path, hint="make its router with door_router()"
            )


async def _told(request: Request, error: Exception) -> JSONResponse:
    call = getattr(request.state, "call", None)
    headers = {REQUEST_ID_HEADER: call.request_id if call else uuid.uuid4().hex}
    return error_response(_as_error(error), headers, shape=error_shape(request))


async def _unmatched(request: Request, failure: Exception) -> JSONResponse:
    """Only the framework's own refusals arrive here: those of a route were named inside the frame."""
    if not isinstance(failure, StarletteHTTPException):
        raise failure
    error = from_http(failure, request)
    arrival = Arrival(Door.REST, UNMATCHED, request.headers)
    request.app.state.frame.refused(arrival, error)
    return error_response(error, {**(failure.headers or {}), REQUEST_ID_HEADER: arrival.request_id()}, failure.status_code)


async def _defect(request: Request, error: Exception) -> JSONResponse:
    return error_response(_as_error(error))


def _as_error(error: Exception) -> PreceptorError:
    return error if isinstance(error, PreceptorError) else Internal("an unforeseen failure", hint="please report it")
