"""Logs: one JSON object a line or readable text, with context, without secrets, libraries included."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import structlog

from preceptor import redaction
from preceptor.logs import ADOPTED, configure_logs, get_logger, log_context


@pytest.fixture(autouse=True)
def _restore_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    monkeypatch.setattr(redaction, "_remembered", set())
    yield
    root.handlers[:], root.level = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(**changes: Any) -> io.StringIO:
    stream = changes.pop("stream", io.StringIO())
    configure_logs("teacher", **{"log_format": "json", "level": "info", **changes}, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_carries_service_context_and_utc_time() -> None:
    stream = configured()
    with log_context(request_id="r-1", trace="abc"):
        get_logger("a.b").info("scored", rows=512)
    get_logger("a.b").info("later")
    inside, outside = lines(stream)
    assert inside.items() >= {"event": "scored", "rows": 512, "service": "teacher", "request_id": "r-1", "trace": "abc"}.items()
    assert (inside["logger"], inside["level"]) == ("a.b", "info")
    assert datetime.fromisoformat(inside["timestamp"]).utcoffset().total_seconds() == 0
    assert "request_id" not in outside


@pytest.mark.parametrize("name", ADOPTED)
def test_libraries_end_in_the_same_stream(name: str) -> None:
    library = logging.getLogger(name)
    library.addHandler(logging.StreamHandler(io.StringIO()))
    library.propagate = False
    stream = configured()
    with log_context(request_id="r-2"):
        library.warning("hello %s", "there")
    (line,) = lines(stream)
    assert line.items() >= {"event": "hello there", "logger": name, "service": "teacher", "request_id": "r-2"}.items()


def test_warnings_are_logged() -> None:
    stream = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logs("teacher", log_format="json", level="info", stream=stream)
        warnings.warn("old thing", stacklevel=1)
    assert any("old thing" in line["event"] for line in lines(stream))


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_reaches_the_log(log_format: str) -> None:
    redaction.remember_secret("hunter22")
    stream = configured(log_format=log_format)
    log = get_logger("a")
    log.info("using hunter22", api_key="k1-secret", url="redis://u:k2-secret@h", inner={"password": "k3-secret"})
    logging.getLogger("uvicorn.access").info("GET /k/%s/v1", "k4-secret")
    try:
        raise ValueError("refused: hunter22")
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "hunter22" not in text
    assert "-secret" not in text
    assert "ValueError: refused: [redacted]" in text


def test_auto_is_readable_on_a_terminal_and_json_elsewhere() -> None:
    terminal = configured(log_format="auto", stream=Terminal())
    get_logger("a").info("hello")
    assert "hello" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        json.loads(terminal.getvalue())
    file = configured(log_format="auto")
    get_logger("a").info("hello")
    assert lines(file)[0]["event"] == "hello"


def test_the_level_is_a_floor_for_everybody() -> None:
    stream = configured(level="warning")
    get_logger("a").info("quiet")
    logging.getLogger("uvicorn").info("quiet")
    get_logger("a").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_a_second_call_moves_loggers_that_exist() -> None:
    first = configured()
    log = get_logger("a")
    log.info("one")
    second = configured()
    log.info("two")
    assert [line["event"] for line in lines(first) + lines(second)] == ["one", "two"]
