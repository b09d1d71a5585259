"""What a child prints reaches the log, whatever it is: a line that stopped the reader would stop the child with it."""

from __future__ import annotations

import logging

import pytest

from preceptor_serving.engine_host.log_lines import SEPARATOR, parse_line


def test_a_record_keeps_its_level_and_logger() -> None:
    line = SEPARATOR + '{"level": 20, "logger": "preceptor.engine", "message": "loaded"}'
    assert parse_line(line) == (logging.INFO, "preceptor.engine", "loaded")


@pytest.mark.parametrize("rest", ["", "{", "5", "[]", "{}", '{"level": "loud", "logger": "x", "message": "y"}', '{"level": 20}'])
def test_what_is_no_record_is_told_as_it_is(rest: str) -> None:
    assert parse_line(SEPARATOR + rest) == (logging.WARNING, "output", SEPARATOR + rest)
