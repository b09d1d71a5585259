"""What is wrong with a batch is the mistake of who sent it, by the field's path."""

from __future__ import annotations

import numpy as np
import pytest

from preceptor import wire
from preceptor.errors import InvalidArgument
from preceptor.types import Sequence
from preceptor_proto.v1 import common_pb2, student_pb2
from preceptor_student.batch import items_of

BROKEN = {
    "hidden.dtype": common_pb2.Rows(count=2, validity=b"\0\0", hidden=common_pb2.HiddenStates(width=4, values=bytes(16))),
    "validity": common_pb2.Rows(count=2, validity=b"\0"),
    "sampled": common_pb2.Rows(count=2, validity=b"\0\0", sampled_f32le=bytes(3)),
}


@pytest.mark.parametrize("field", BROKEN)
def test_rows_that_cannot_be_read_are_an_invalid_argument(field: str) -> None:
    item = student_pb2.TrainItem(sequence=wire.sequence_to_proto(Sequence.of([1], np.array([2, 3]))), weight=1.0)
    item.scores.add(source="tutor", rows=BROKEN[field])
    with pytest.raises(InvalidArgument) as refused:
        items_of(student_pb2.MicroBatch(items=[item]), 61, "items")
    assert str(refused.value.field).startswith(f"items.items[0].scores[tutor].rows.{field}")
