"""One log record as one line of JSON behind a separator: how the child's log travels over its standard error."""

from __future__ import annotations

import json
import logging
from typing import TextIO

SEPARATOR = "\x1e"


class _OneLine(logging.Formatter):
    """A record, traceback included, as one line."""

    def format(self, record: logging.LogRecord) -> str:
        parts = {"level": record.levelno, "logger": record.name, "message": super().format(record)}
        return SEPARATOR + json.dumps(parts)


def send_logs_to(stream: TextIO) -> None:
    """Called once, in the child."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_OneLine())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def parse_line(line: str) -> tuple[int, str, str]:
    """(level, logger, message); what is no record is told as it is, as a warning."""
    try:
        if line.startswith(SEPARATOR):
            parts = json.loads(line.removeprefix(SEPARATOR))
            return int(parts["level"]), str(parts["logger"]), str(parts["message"])
    except (ValueError, TypeError, LookupError):  # cut off by the child's end, or another program's separator
        pass
    return logging.WARNING, "output", line
