"""Ids, offsets, validity, plain columns and hidden states: they come back as they were sent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import codec
from preceptor.codec import Grade, HiddenDtype, Validity
from preceptor_proto.v1 import common_pb2
from tests.reference import codec_reference as ref
from tests.reference.codec_strategies import entry

HEADS = st.sampled_from([1, 255, 65536, 65537, 151936, 1 << 24])


@st.composite
def heads_and_ids(draw: st.DrawFn) -> tuple[int, list[int]]:
    head = draw(HEADS)
    return head, draw(st.lists(st.integers(0, head - 1), max_size=20))


@given(heads_and_ids())
def test_ids_equal_the_reference_and_come_back(case: tuple[int, list[int]]) -> None:
    head, ids = case
    encoded = codec.encode_ids(np.array(ids, np.int64), head)
    assert (encoded.low, encoded.high) == ref.encode_ids(ids, head)
    decoded = codec.decode_ids(encoded.low, encoded.high, head, rows=len(ids), width=1)
    assert decoded.dtype == np.uint32
    assert decoded.ravel().tolist() == ids == ref.decode_ids(encoded.low, encoded.high)


def test_the_high_plane_appears_with_row_65537_of_the_head() -> None:
    assert codec.encode_ids(np.array([65535]), 65536).high == b""
    assert codec.encode_ids(np.array([65535]), 65537).high == b"\0"


def test_ids_of_rows_keep_their_shape() -> None:
    ids = np.arange(70000, 70012, dtype=np.uint32).reshape(3, 4)
    encoded = codec.encode_ids(ids, 151936)
    np.testing.assert_array_equal(codec.decode_ids(encoded.low, encoded.high, 151936, rows=3, width=4), ids)
    ragged = codec.decode_ids(encoded.low, encoded.high, 151936, rows=2, offsets=np.array([0, 12, 12]))
    np.testing.assert_array_equal(ragged, ids.ravel())


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_offsets_equal_the_reference_and_come_back_as_a_view(lengths: list[int]) -> None:
    offsets = np.cumsum([0, *lengths])
    plane = codec.encode_offsets(offsets, entries=sum(lengths))
    assert plane == ref.encode_offsets(lengths)
    decoded = codec.decode_offsets(plane, len(lengths), sum(lengths))
    assert decoded.tolist() == ref.decode_offsets(plane)
    assert np.shares_memory(decoded, np.frombuffer(plane, np.uint8))


@given(st.lists(st.sampled_from(list(Validity)), max_size=20))
def test_validity_comes_back(rows: list[Validity]) -> None:
    plane = codec.encode_validity(rows)
    assert plane == bytes(rows)
    assert [Validity(code) for code in codec.decode_validity(plane, len(rows))] == rows


@given(st.lists(entry, max_size=20))
def test_columns_equal_the_reference_and_come_back_as_a_view(values: list[float]) -> None:
    column = np.array(values, np.float32)
    plane = codec.encode_column(column)
    assert plane == ref.encode_f32([values])
    decoded = codec.decode_column(plane, len(values))
    np.testing.assert_array_equal(decoded, column)
    assert np.shares_memory(decoded, np.frombuffer(plane, np.uint8)) == bool(values)


@given(st.lists(st.integers(0, 0xFFFF), min_size=2, max_size=20))
def test_hidden_bf16_is_the_upper_half_of_f32(bits: list[int]) -> None:
    plane = codec.encode_hidden(np.array([bits], np.uint16), HiddenDtype.BF16)
    decoded = codec.decode_hidden(plane, HiddenDtype.BF16, rows=1, width=len(bits))
    assert decoded.dtype == np.float32
    assert not decoded.flags.writeable
    np.testing.assert_array_equal(decoded[0], np.array(ref.decode_bf16(plane), np.float32))


@pytest.mark.parametrize(("dtype", "kind"), [(HiddenDtype.F32, np.float32), (HiddenDtype.F16, np.float16)])
def test_hidden_floats_come_back_as_views(dtype: HiddenDtype, kind: type[np.floating]) -> None:
    states = np.random.default_rng(0).standard_normal((3, 8)).astype(kind)
    plane = codec.encode_hidden(states, dtype)
    decoded = codec.decode_hidden(plane, dtype, rows=3, width=8)
    np.testing.assert_array_equal(decoded, states)
    assert np.shares_memory(decoded, np.frombuffer(plane, np.uint8))


def test_hidden_states_of_missing_rows_are_nan_in_every_dtype() -> None:
    validity = np.array([Validity.OK, Validity.MISSING], np.uint8)
    states = np.array([[1.0, -2.0], [np.nan, np.nan]], np.float32)
    planes = {
        HiddenDtype.F32: states,
        HiddenDtype.F16: states.astype(np.float16),
        HiddenDtype.BF16: (states.view(np.uint32) >> 16).astype(np.uint16),
    }
    for dtype, plane in planes.items():
        data = codec.encode_hidden(plane, dtype, validity=validity)
        decoded = codec.decode_hidden(data, dtype, rows=2, width=2, validity=validity)
        np.testing.assert_array_equal(decoded, states)


def test_numbers_are_the_protocols_and_names_are_for_people() -> None:
    for ours, theirs, prefix in (
        (Grade, common_pb2.Grade, "GRADE_"),
        (HiddenDtype, common_pb2.Dtype, "DTYPE_"),
        (Validity, common_pb2.Validity, "VALIDITY_"),
    ):
        known = {name.removeprefix(prefix): number for name, number in theirs.items()}
        known.pop("UNSPECIFIED", None)
        assert {member.name: member.value for member in ours} == known
    assert Grade("f16") is Grade("F16") is Grade(1) is Grade.F16
    assert f"{Grade.U8} {Grade.F32!s} {HiddenDtype.BF16}" == "u8 f32 bf16"
    with pytest.raises(ValueError, match="f8"):
        Grade("f8")  # pyright: ignore[reportArgumentType]
