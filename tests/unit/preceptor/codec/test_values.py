"""Lists of log-probabilities: bounds, order and meaning survive each grade, and every byte equals the plain reference's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from preceptor.codec import EncodedValues, Grade, decode_values, encode_values
from tests.reference import codec_reference as ref
from tests.reference.codec_strategies import F32, Lists, fixed_lists, flat, lengths, offsets, ragged_lists

GRADES = pytest.mark.parametrize("grade", list(Grade))


def there_and_back(encoded: EncodedValues, **shape: object) -> F32:
    return decode_values(encoded.values, encoded.grade, bases=encoded.bases, steps=encoded.steps, **shape)  # pyright: ignore[reportArgumentType]


def round_trip(rows: Lists, grade: Grade) -> tuple[F32, EncodedValues, F32]:
    values = np.array(rows, np.float32)
    encoded = encode_values(values, grade)
    return values, encoded, there_and_back(encoded, rows=values.shape[0], width=values.shape[1])


def ragged_round_trip(rows: Lists, grade: Grade) -> tuple[F32, EncodedValues, F32]:
    encoded = encode_values(flat(rows), grade, offsets=offsets(rows))
    return flat(rows), encoded, there_and_back(encoded, rows=len(rows), offsets=offsets(rows))


def reference(rows: Lists, grade: Grade) -> EncodedValues:
    if grade is Grade.F32:
        return EncodedValues(grade, ref.encode_f32(rows))
    if grade is Grade.F16:
        plane, clipped, bound = ref.encode_f16(rows)
        return EncodedValues(grade, plane, b"", b"", clipped, bound)
    return EncodedValues(grade, *ref.encode_u8(rows))


def reference_decode(encoded: EncodedValues, rows: Lists) -> F32:
    if encoded.grade is Grade.U8:
        lists = ref.decode_u8(encoded.values, encoded.bases, encoded.steps, lengths(rows))
        return flat(lists)
    decode = ref.decode_f32 if encoded.grade is Grade.F32 else ref.decode_f16
    return np.array(decode(encoded.values), np.float32)


def clipped_entries(values: F32, encoded: EncodedValues) -> NDArray[np.bool_]:
    if encoded.grade is Grade.U8:
        return np.frombuffer(encoded.values, np.uint8).reshape(values.shape) == 253
    return np.isfinite(values) & (values < -65504) & (encoded.grade is Grade.F16)


@GRADES
@given(rows=fixed_lists())
def test_bytes_and_numbers_equal_the_reference(grade: Grade, rows: Lists) -> None:
    _, encoded, decoded = round_trip(rows, grade)
    assert encoded == reference(rows, grade)
    np.testing.assert_array_equal(decoded.ravel().view(np.uint32), reference_decode(encoded, rows).view(np.uint32))


@GRADES
@given(rows=ragged_lists())
def test_ragged_bytes_and_numbers_equal_the_reference(grade: Grade, rows: Lists) -> None:
    _, encoded, decoded = ragged_round_trip(rows, grade)
    assert encoded == reference(rows, grade)
    np.testing.assert_array_equal(decoded.view(np.uint32), reference_decode(encoded, rows).view(np.uint32))


@GRADES
@given(rows=fixed_lists())
def test_every_entry_that_is_not_clipped_is_within_the_stated_bound(grade: Grade, rows: Lists) -> None:
    values, encoded, decoded = round_trip(rows, grade)
    inside = np.isfinite(values) & ~clipped_entries(values, encoded)
    errors = np.abs(decoded[inside].astype(np.float64) - values[inside].astype(np.float64))
    assert (errors <= encoded.error_bound_nats).all()
    assert encoded.clipped == np.count_nonzero(clipped_entries(values, encoded))
    assert encoded.error_bound_nats == np.float32(encoded.error_bound_nats)


@given(rows=fixed_lists())
def test_u8_is_within_a_504th_of_the_range_plus_rounding_and_never_beyond_a_twentieth(rows: Lists) -> None:
    values, encoded, decoded = round_trip(rows, Grade.U8)
    assert encoded.error_bound_nats <= 0.05
    bases = np.frombuffer(encoded.bases, np.float16).astype(np.float64)
    for row, base in enumerate(bases):
        inside = np.isfinite(values[row]) & ~clipped_entries(values, encoded)[row]
        wide = values[row][inside].astype(np.float64)
        span = min(base - values[row][np.isfinite(values[row])].min(initial=base), 24.0)
        limit = span / 504 * (1 + 2.0**-10) + 2.0**-25 + np.spacing(np.float32(abs(base) + 24.1)) / 2
        assert (np.abs(decoded[row][inside] - wide) <= limit).all()


@given(rows=fixed_lists())
def test_f16_is_within_its_contract(rows: Lists) -> None:
    values, encoded, decoded = round_trip(rows, Grade.F16)
    inside = np.isfinite(values) & ~clipped_entries(values, encoded)
    wide = values[inside].astype(np.float64)
    assert (np.abs(decoded[inside] - wide) <= np.maximum(2.0**-11 * np.abs(wide), 2.0**-25)).all()
    assert (decoded[clipped_entries(values, encoded)] == -65504).all()


@GRADES
@given(rows=fixed_lists())
def test_missing_and_zero_probability_stay_what_they_are_and_order_never_turns(grade: Grade, rows: Lists) -> None:
    values, _, decoded = round_trip(rows, grade)
    np.testing.assert_array_equal(np.isnan(decoded), np.isnan(values))
    np.testing.assert_array_equal(np.isneginf(decoded), np.isneginf(values))
    for before, after in zip(values, decoded, strict=True):
        present = ~np.isnan(before)
        sorted_after = after[present][np.argsort(before[present], kind="stable")]
        assert (sorted_after[1:] >= sorted_after[:-1]).all()


@GRADES
@given(rows=fixed_lists())
def test_encoding_what_was_decoded_changes_nothing_that_the_bound_allows_to_keep(grade: Grade, rows: Lists) -> None:
    _, first, decoded = round_trip(rows, grade)
    again = encode_values(decoded, grade)
    if grade is not Grade.U8:
        assert again.values == first.values
        return
    twice = there_and_back(again, rows=decoded.shape[0], width=decoded.shape[1])
    finite = np.isfinite(decoded)
    assert (np.isfinite(twice) == finite).all()
    bound = max(again.error_bound_nats, first.error_bound_nats)
    assert (np.abs(twice[finite].astype(np.float64) - decoded[finite]) <= bound).all()


@GRADES
@given(rows=fixed_lists(), other=fixed_lists())
def test_a_row_does_not_depend_on_its_neighbours(grade: Grade, rows: Lists, other: Lists) -> None:
    alone = encode_values(flat(rows), grade, offsets=offsets(rows))
    together = encode_values(flat(rows + other), grade, offsets=offsets(rows + other))
    assert together.values.startswith(alone.values)
    assert together.bases.startswith(alone.bases)
    assert together.steps.startswith(alone.steps)


def test_codes_have_their_documented_meaning() -> None:
    values = np.array([[0.0, -12.0, -24.0, -24.5, -np.inf, np.nan]], np.float32)
    encoded = encode_values(values, Grade.U8)
    step = float(np.frombuffer(encoded.steps, np.float16)[0])
    assert list(encoded.values) == [0, round(12 / step), 252, 253, 254, 255]
    assert encoded.clipped == 1
    decoded = there_and_back(encoded, rows=1, width=6)[0]
    assert decoded[0] == 0.0
    assert decoded[2] == decoded[3] == np.float32(-252 * step)


@pytest.mark.parametrize(
    ("row", "base", "bound"),
    [
        ([-0.5], -0.5, 0.0),  # one entry that f16 holds: no step, no error
        ([-2.0, -2.0], -2.0, 0.0),
        ([np.nan, -np.inf], 0.0, 0.0),  # nothing finite
        ([-1000.3], -1000.0, 0.3 / 504 * 1.001 + 3.1e-5),  # the base is a multiple of 0.5 there: the step reaches down
        ([-70000.0], -65504.0, 0.0477 + 0.002),
    ],
)
def test_degenerate_rows(row: list[float], base: float, bound: float) -> None:
    _, encoded, _ = round_trip([row], Grade.U8)
    assert np.frombuffer(encoded.bases, np.float16)[0] == base
    assert encoded.error_bound_nats <= bound
    assert (encoded.error_bound_nats == 0) == (np.frombuffer(encoded.steps, np.float16)[0] == 0)


def test_decoded_arrays_are_read_only_and_f32_is_a_view_of_the_bytes() -> None:
    for grade in Grade:
        _, encoded, decoded = round_trip([[-1.0, -2.0]], grade)
        assert not decoded.flags.writeable
        assert np.shares_memory(decoded, np.frombuffer(encoded.values, np.uint8)) == (grade is Grade.F32)


@GRADES
def test_arrays_in_any_memory_order_encode_alike(grade: Grade) -> None:
    values = np.linspace(-20, 0, 24, dtype=np.float32).reshape(4, 6)
    assert encode_values(np.asfortranarray(values), grade) == encode_values(values, grade)
    assert encode_values(values[:, ::2], grade) == encode_values(values[:, ::2].copy(), grade)


@GRADES
def test_nothing_at_all_is_nothing(grade: Grade) -> None:
    none = encode_values(np.zeros((0, 64), np.float32), grade)
    assert none == EncodedValues(grade, b"")
    assert there_and_back(none, rows=0, width=64).shape == (0, 64)
    empty_rows = encode_values(np.zeros(0, np.float32), grade, offsets=np.zeros(4, np.uint32))
    assert there_and_back(empty_rows, rows=3, offsets=np.zeros(4, np.uint32)).shape == (0,)


@GRADES
def test_equal_scores_are_equal_bytes_whatever_kind_of_nan_an_engine_makes(grade: Grade) -> None:
    nans = np.array([[0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF]], np.uint32).view(np.float32)
    assert encode_values(nans, grade) == encode_values(np.full((1, 4), np.nan, np.float32), grade)
