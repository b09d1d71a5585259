"""Records, requests and the table of `preceptor grade`."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from preceptor.errors import InvalidArgument, TooLarge, Unavailable
from preceptor.grade_view.asking import RECORDS_A_REQUEST, Outcome, batches_of
from preceptor.grade_view.paint import show
from preceptor.grade_view.records import Record, read_records
from preceptor.types import CriterionVerdict, GradeItem, Validity, Verdict


@given(st.lists(st.sampled_from(["", "", "a", "b", "c"]), max_size=150))
def test_every_record_is_asked_about_once_and_a_group_is_never_divided(groups: list[str]) -> None:
    batches = batches_of([Record(GradeItem("p", "r", group=group)) for group in groups])
    assert sorted(index for batch in batches for index, _ in batch) == list(range(len(groups)))
    for name in {"a", "b", "c"} & set(groups):
        assert sum(any(record.item.group == name for _, record in batch) for batch in batches) == 1
    largest = max([1, *(groups.count(name) for name in "abc")])
    assert all(len(batch) <= max(RECORDS_A_REQUEST, largest) for batch in batches)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("", "from"),
        ("[1]", "from"),
        ('{"prompt": "p"}', "response"),
        ('{"prompt": "", "response": "r"}', "file:1.prompt"),
        ('{"prompt": 1, "response": "r"}', "prompt"),
        ('{"prompt": "p", "response": "r", "id": 1.5}', "id"),
        *(
            (f'{{"prompt": "p", "response": "r", "unsure_at": {one}}}', "unsure_at")
            for one in ("3", "[-1]", "[1.0]", "[true]", "null")
        ),
        ('{"prompt": "p", "response": "r", "unsure_at": [4294967296]}', "unsure_at"),
        ('{"prompt": "p", "response": "r", "answer": "a"}', "answer"),
    ],
)
def test_a_wrong_record_is_refused_by_its_field(line: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_records([line], "file")
    assert caught.value.field == field


def test_a_text_beyond_the_protocol_is_refused_by_its_line() -> None:
    with pytest.raises(TooLarge) as caught:
        read_records(["", '{"prompt": "p", "response": "' + "r" * (1 << 20) + 'r"}'], "file")
    assert caught.value.field == "file:2.response"


def test_the_table_keeps_rewards_and_obeys_no_text_on_a_narrow_terminal() -> None:
    criteria = (CriterionVerdict("c1", Validity.OK, 1.0), CriterionVerdict("c2", Validity.MISSING, None))
    record = Record(GradeItem("p" * 2000, "\x1b[2J" + "r" * 2000), "file:7")
    outcomes = [
        Outcome(record, Verdict(Validity.OK, 0.625, criteria=criteria, calls=2, prompt_tokens=90, cost_usd=0.25)),
        Outcome(record, Verdict(Validity.MISSING_PROVIDER, None, reason="the judge refused")),
        Outcome(record, Unavailable("nobody is there")),
    ]
    out = io.StringIO()
    show(outcomes, "rubric", Console(file=out, width=80, _environ={}))
    told = out.getvalue()
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) <= 80
    for expected in ("0.625", "none", "failed", "c1=1 c2=?", "the judge refus", "UNAVAILABLE"):
        assert expected in told
    summed = "rubric: 1 of 3 have a reward, mean 0.625, 1 without one, 1 not graded, 2 calls, 90 tokens, $0.2500"
    assert summed in " ".join(told.split())
