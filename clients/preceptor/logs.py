"""Logs of a process: readable lines on a terminal, one JSON object a line elsewhere, secrets out of both.

    configure_logs("teacher", log_format="auto", level="info")
    log = get_logger(__name__)
    with log_context(request_id="r-1", trace="4bf92f35"):
        log.info("scored", rows=512)      # carries service, request_id and trace

Loggers of libraries (uvicorn, gRPC's Python side, warnings) end in the same stream and the same shape. gRPC's C core
writes to stderr by itself; GRPC_VERBOSITY governs it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from preceptor.redaction import redact

# Libraries that install handlers of their own or stop propagation; ours shall be the only one.
ADOPTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "grpc", "py.warnings")
CHATTY = ("httpx", "httpcore", "httpx2", "httpcore2", "asyncio", "urllib3")  # a line for every request at INFO


def configure_logs(
    service: str,
    *,
    log_format: Literal["auto", "json", "console"],
    level: Literal["debug", "info", "warning", "error"],
    stream: TextIO | None = None,
) -> None:
    """From here on everything that this process logs goes to `stream` (stderr if not given); may be called again."""
    target = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not target.isatty())
    shared = _shared_processors(service)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a second call must reach loggers that exist already
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(shared, as_json=as_json, colours=target.isatty()))
    _route_stdlib(handler, logging.getLevelNamesMapping()[level.upper()])


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose methods take an event and fields: `log.info("scored", rows=512)`."""
    return structlog.stdlib.get_logger(name)


@contextmanager
def log_context(**fields: str | int) -> Generator[None]:
    """Every line logged inside, by whomever, carries these fields (`request_id`, `trace`, `task_id` ...)."""
    with structlog.contextvars.bound_contextvars(**fields):
        yield


def _shared_processors(service: str) -> list[Processor]:
    """What our own and the libraries' lines get alike."""

    def add_service(_: object, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return [
        structlog.contextvars.merge_contextvars,
        add_service,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _formatter(shared: list[Processor], *, as_json: bool, colours: bool) -> logging.Formatter:
    """Redaction is the last step before rendering, after tracebacks have become text."""
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if not as_json:
        renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _redact_event,
            renderer,
        ],
    )


def _redact_event(_: object, __: str, event: EventDict) -> MutableMapping[str, Any]:
    return {name: redact(name, value) for name, value in event.items()}


def _route_stdlib(handler: logging.Handler, level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    for name in ADOPTED:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
