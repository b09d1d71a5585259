"""One tree of errors: enum, table, classes, protocol and page agree, and errors survive the way between processes."""

import copy
import pickle
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import errors
from preceptor.errors import CODES, ErrorCode, PreceptorError, error_classes, error_from_code, shown
from preceptor_proto.v1 import common_pb2

PAGE = Path(__file__).parents[3] / "docs" / "errors.md"


def page_rows() -> dict[str, list[str]]:
    lines = (line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| "))
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {row[0]: row[1:] for row in rows if row[0] != "code"}


def test_every_code_has_a_row_and_a_class() -> None:
    assert set(CODES) == set(ErrorCode) == set(error_classes())


def test_every_class_is_reached_by_exactly_one_code() -> None:
    classes = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, PreceptorError)}
    assert set(error_classes().values()) == classes - {PreceptorError}


def test_the_protocol_knows_the_same_codes() -> None:
    names = set(common_pb2.ErrorCode.keys()) - {"ERROR_CODE_UNSPECIFIED"}
    assert names == {str(code) for code in ErrorCode}


def test_the_page_lists_every_code_as_the_table_has_it() -> None:
    expected = {
        str(code): [error_classes()[code].__name__, spec.grpc_status, str(spec.http_status), "yes" if spec.retryable else "no"]
        for code, spec in CODES.items()
    }
    rows = page_rows()
    assert {code: row[:4] for code, row in rows.items()} == expected
    assert all(row[4] for row in rows.values())


def test_the_tree_in_the_docstring_names_every_class() -> None:
    assert [one.__name__ for one in error_classes().values() if one.__name__ not in (errors.__doc__ or "")] == []


@pytest.mark.parametrize("code", ErrorCode)
def test_statuses_exist_and_fit_together(code: ErrorCode) -> None:
    spec = CODES[code]
    assert spec.grpc_status in grpc.StatusCode.__members__
    assert 400 <= spec.http_status < 600
    if spec.grpc_status == "INVALID_ARGUMENT":
        assert not spec.retryable


parts = st.fixed_dictionaries(
    {
        "field": st.text(max_size=20),
        "value": st.text(max_size=40),
        "limit": st.integers(),
        "hint": st.text(max_size=20),
        "retry_after_s": st.none() | st.floats(0, 1e6),
        "queue_position": st.none() | st.integers(0, 9999),
    }
)


@given(code=st.sampled_from(ErrorCode), message=st.text(max_size=40), parts=parts)
def test_an_error_survives_the_way_to_another_process(code: ErrorCode, message: str, parts: dict[str, object]) -> None:
    error = error_from_code(code, message, **parts)
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error) is error_classes()[code]
        assert vars(other) == vars(error)
        assert str(other) == str(error)


def test_an_unknown_code_of_a_newer_peer_is_named() -> None:
    error = error_from_code("FROM_THE_FUTURE", "hello")
    assert isinstance(error, errors.Internal)
    assert "FROM_THE_FUTURE" in str(error)
    assert "hello" in str(error)


def test_errors_are_also_the_standard_errors_they_refine() -> None:
    expected = {
        "InvalidArgument": ValueError,
        "NotFound": LookupError,
        "PermissionDenied": PermissionError,
        "Unauthenticated": PermissionError,
        "Unavailable": ConnectionError,
        "DeadlineExceeded": TimeoutError,
        "MissingExtra": ImportError,
        "Corrupt": ValueError,
    }
    assert all(issubclass(getattr(errors, name), base) for name, base in expected.items())


@given(st.text() | st.binary() | st.integers())
def test_a_shown_value_never_floods_a_log(value: object) -> None:
    assert len(shown(value)) <= errors.MAX_SHOWN_VALUE_CHARS
