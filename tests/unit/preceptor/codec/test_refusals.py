"""What cannot be said is refused by name: encoders say INVALID_ARGUMENT, decoders CORRUPT, and nothing else."""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import codec
from preceptor.codec import Grade, HiddenDtype, Validity
from preceptor.errors import Corrupt, InvalidArgument

OK_AND_MISSING = np.array([Validity.OK, Validity.MISSING], np.uint8)
GRADES = pytest.mark.parametrize("grade", list(Grade))


def f32(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


# ---------------------------------------------------------------- encoders


@GRADES
def test_plus_infinity_is_refused_with_its_row(grade: Grade) -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_values(f32([-1, -2], [np.nan, np.inf]), grade, field="rows.topk.values")
    assert caught.value.field == "rows.topk.values[1]"
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_values(f32([-1, np.inf, -2])[0], grade, offsets=np.array([0, 0, 1, 1, 3]), field="v")
    assert caught.value.field == "v[3]"


@pytest.mark.parametrize("grade", [Grade.F16, Grade.U8])
def test_what_f16_cannot_hold_above_zero_is_refused_with_its_row(grade: Grade) -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_values(f32([0.0], [70000.0]), grade, field="v")
    assert (caught.value.field, caught.value.limit) == ("v[1]", "<= 65504")


@GRADES
@pytest.mark.parametrize("filler", [0.0, -np.inf])
def test_a_row_without_scores_must_not_carry_any(grade: Grade, filler: float) -> None:
    values = f32([-1, -2], [np.nan, filler])
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_values(values, grade, validity=OK_AND_MISSING, field="v")
    assert caught.value.field == "v[1]"
    encoded = codec.encode_values(values, grade)
    with pytest.raises(Corrupt) as refused:
        codec.decode_values(
            encoded.values, grade, rows=2, width=2, bases=encoded.bases, steps=encoded.steps, validity=OK_AND_MISSING, field="v"
        )
    assert refused.value.field == "v[1]"


def test_columns_and_hidden_states_of_rows_without_scores_must_be_nan() -> None:
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_column(f32([-1, 0])[0], validity=OK_AND_MISSING, field="sampled")
    assert caught.value.field == "sampled[1]"
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_hidden(np.zeros((2, 4), np.uint16), HiddenDtype.BF16, validity=OK_AND_MISSING)
    assert caught.value.field == "hidden[1]"
    with pytest.raises(InvalidArgument) as caught:
        codec.encode_column(f32([-1, 0, 1])[0], validity=OK_AND_MISSING)
    assert (caught.value.value, caught.value.limit) == ("2", "3")


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: codec.encode_values(np.zeros((2, 2)), Grade.F32), "values"),  # pyright: ignore[reportArgumentType]
        (lambda: codec.encode_values(f32([0.0])[0], Grade.F32), "values"),
        (lambda: codec.encode_values(np.zeros((2, 0), np.float32), Grade.F32), "values.width"),
        (lambda: codec.encode_values(f32([0, 0])[0], Grade.F32, offsets=np.array([0, 1])), "values.offsets[1]"),
        (lambda: codec.encode_values(f32([0, 0])[0], Grade.F32, offsets=np.array([0, 2, 1, 2])), "values.offsets[2]"),
        (lambda: codec.encode_values(f32([0, 0])[0], Grade.F32, offsets=np.array([1, 2])), "values.offsets[0]"),
        (lambda: codec.encode_values(f32([0, 0])[0], Grade.F32, offsets=np.array([0.0, 2.0])), "values.offsets"),
        (lambda: codec.encode_values(f32([0, 0])[0], Grade.F32, offsets=np.zeros(0, np.uint32)), "values.offsets"),
        (lambda: codec.encode_column(f32([np.inf])[0]), "column[0]"),
        (lambda: codec.encode_column(f32([0.0])), "column"),
        (lambda: codec.encode_offsets(np.array([0, 1 << 32])), "offsets[1]"),
        (lambda: codec.encode_validity([0, 6]), "validity[1]"),
        (lambda: codec.encode_validity([-1]), "validity[0]"),
        (lambda: codec.encode_validity([0.5]), "validity"),
        (lambda: codec.encode_ids(np.array([5, 9]), 9), "ids[1]"),
        (lambda: codec.encode_ids(np.array([-1]), 9), "ids[0]"),
        (lambda: codec.encode_ids(np.array([1 << 24]), 1 << 24), "ids[0]"),
        (lambda: codec.encode_ids(np.array([1]), (1 << 24) + 1), "ids.head_rows"),
        (lambda: codec.encode_ids(np.array([0.5]), 9), "ids"),
        (lambda: codec.encode_hidden(np.zeros((1, 4), np.float32), HiddenDtype.BF16), "hidden"),
        (lambda: codec.encode_hidden(np.zeros((1, 0), np.float32), HiddenDtype.F32), "hidden.width"),
    ],
)
def test_encoders_name_what_they_refuse(call: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call()
    assert caught.value.field == field


# ---------------------------------------------------------------- decoders

HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("call", "field", "value", "limit"),
    [
        (lambda: codec.decode_column(b"12345", 1), "column", "5", "4"),
        (lambda: codec.decode_column(b"", HUGE), "column", "0", str(4 * HUGE)),
        (lambda: codec.decode_column(b"", -1), "column", "-1", f"0..{HUGE}"),
        (lambda: codec.decode_column(b"", 1 << 70), "column", str(1 << 70), f"0..{HUGE}"),
        (lambda: codec.decode_column(b"\x00\x00\x80\x7f", 1), "column[0]", "inf", "finite, -inf or NaN"),
        (lambda: codec.decode_validity(b"\0\6", 2), "validity[1]", "6", "one of 0..5"),
        (lambda: codec.decode_validity(b"\0", 2), "validity", "1", "2"),
        (lambda: codec.decode_offsets(b"", -1, 0), "offsets", "-1", f"0..{HUGE}"),
        (lambda: codec.decode_offsets(b"\0\0\0\0", 1), "offsets", "4", "8"),
        (lambda: codec.decode_offsets(b"\1\0\0\0", 0), "offsets[0]", "1", "0"),
        (lambda: codec.decode_offsets(b"\0\0\0\0\2\0\0\0\1\0\0\0", 2), "offsets[2]", "1", ">= 2"),
        (lambda: codec.decode_offsets(b"\0\0\0\0\2\0\0\0", 1, 3), "offsets[1]", "2", "3"),
        (lambda: codec.decode_values(b"", 3, rows=0, width=1), "values.grade", "3", "0 (f32) | 1 (f16) | 2 (u8)"),
        (lambda: codec.decode_values(b"", 0, rows=HUGE, width=HUGE), "values", "0", str(4 * HUGE * HUGE)),
        (lambda: codec.decode_values(b"", 0, rows=1, width=1 << 32), "values.width", str(1 << 32), f"0..{HUGE}"),
        (lambda: codec.decode_values(b"", 0, rows=1), "values.width", "neither", "one of width and offsets"),
        (lambda: codec.decode_values(b"1234", 0, rows=1, width=1, bases=b"12"), "values.bases", "2", "0"),
        (lambda: codec.decode_values(b"12", 1, rows=1, width=1, steps=b"1"), "values.steps", "1", "0"),
        (lambda: codec.decode_values(b"\0", 2, rows=1, width=1), "values.bases", "0", "2"),
        (lambda: codec.decode_values(b"\0", 2, rows=1, width=1, bases=b"\0\0"), "values.steps", "0", "2"),
        (lambda: codec.decode_values(b"", 2, rows=0, offsets=np.array([0, 0])), "values.offsets", "2", "1"),
        (
            lambda: codec.decode_values(b"\0", 2, rows=1, width=1, bases=b"\0\x7c", steps=b"\0\0"),
            "values.bases[0]",
            "inf",
            "finite",
        ),
        (
            lambda: codec.decode_values(b"\0", 2, rows=1, width=1, bases=b"\0\0", steps=b"\x1a\x2e"),
            "values.steps[0]",
            "0.09533691",
            "0..0.09527588",
        ),
        (
            lambda: codec.decode_values(b"\0", 2, rows=1, width=1, bases=b"\0\0", steps=b"\1\x80"),
            "values.steps[0]",
            "-0.00000006",
            "0..0.09527588",
        ),
        (lambda: codec.decode_values(b"\0\x7c", 1, rows=1, width=1), "values[0]", "inf", "finite, -inf or NaN"),
        (lambda: codec.decode_ids(b"\1\0", b"", 65537, rows=1, width=1), "ids.high", "0", "1"),
        (lambda: codec.decode_ids(b"\1\0", b"\0", 65536, rows=1, width=1), "ids.high", "1", "0"),
        (lambda: codec.decode_ids(b"\1\0", b"", 1, rows=1, width=1), "ids[0]", "1", "0..0"),
        (lambda: codec.decode_ids(b"", b"", 0, rows=0, width=1), "ids.head_rows", "0", f"1..{1 << 24}"),
        (lambda: codec.decode_hidden(b"", 0, rows=0, width=1), "hidden.dtype", "0", "1 (f32) | 2 (f16) | 3 (bf16)"),
        (lambda: codec.decode_hidden(b"", 3, rows=HUGE, width=HUGE), "hidden", "0", str(2 * HUGE * HUGE)),
    ],
)
def test_decoders_name_what_they_found_and_what_was_due(call: Callable[[], object], field: str, value: str, limit: str) -> None:
    with pytest.raises(Corrupt) as caught:
        call()
    assert (caught.value.field, caught.value.value, caught.value.limit) == (field, value, limit)


small = st.integers(0, 5) | st.sampled_from([-1, HUGE, 1 << 63])
raw = st.binary(max_size=48)
offset_arrays = st.lists(st.integers(0, 60), min_size=1, max_size=6).map(lambda xs: np.array(xs, np.uint32))


@given(raw, raw, raw, st.integers(-1, 4), small, small, st.none() | offset_arrays, st.none() | st.just(OK_AND_MISSING))
def test_arbitrary_bytes_never_raise_anything_but_corrupt(
    values: bytes,
    bases: bytes,
    steps: bytes,
    kind: int,
    rows: int,
    width: int,
    offsets: np.ndarray | None,
    validity: np.ndarray | None,
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: codec.decode_values(
            values, kind, rows=rows, width=width, offsets=offsets, bases=bases, steps=steps, validity=validity
        ),
        lambda: codec.decode_ids(values, bases, 70000 if kind % 2 else 300, rows=rows, width=width, offsets=offsets),
        lambda: codec.decode_offsets(values, rows, width),
        lambda: codec.decode_column(values, rows, validity=validity),
        lambda: codec.decode_validity(values, rows),
        lambda: codec.decode_hidden(values, kind, rows=rows, width=width, validity=validity),
    ]
    named: list[tuple[str, str]] = []
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for call in calls:
            try:
                call()
            except Corrupt as refused:
                named.append((refused.field, refused.limit))
    assert all(field and limit for field, limit in named)


@given(st.data(), st.sampled_from(list(Grade)), st.integers(1, 4), st.integers(1, 4))
def test_mutated_and_cut_payloads_decode_or_are_corrupt(data: st.DataObject, grade: Grade, rows: int, width: int) -> None:
    values = np.linspace(-30, 0, rows * width, dtype=np.float32).reshape(rows, width)
    encoded = codec.encode_values(values, grade)
    planes = [bytearray(plane) for plane in (encoded.values, encoded.bases, encoded.steps)]
    plane = planes[data.draw(st.integers(0, 2 if grade is Grade.U8 else 0))]
    at = data.draw(st.integers(0, len(plane) - 1))
    if cut := data.draw(st.booleans()):
        del plane[at:]
    else:
        plane[at] = data.draw(st.integers(0, 255))
    try:
        decoded = codec.decode_values(planes[0], grade, rows=rows, width=width, bases=planes[1], steps=planes[2])
    except Corrupt:
        return
    assert not cut
    assert decoded.shape == (rows, width)
    assert not np.isposinf(decoded).any()


def test_a_claim_of_four_billion_rows_costs_nothing() -> None:
    tracemalloc.start()
    for grade in Grade:
        with pytest.raises(Corrupt):
            codec.decode_values(b"\0" * 64, grade, rows=HUGE, width=64, bases=b"\0" * 64, steps=b"\0" * 64)
    with pytest.raises(Corrupt):
        codec.decode_hidden(b"", HiddenDtype.BF16, rows=HUGE, width=HUGE)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20
