"""The parts of `preceptor score`: text that is safe to print, steps of a scale, records, and what a terminal shows."""

from __future__ import annotations

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from preceptor.client.rollout import Piece
from preceptor.errors import InvalidArgument
from preceptor.score_view.asking import Alternative, Look, Token
from preceptor.score_view.lines import COLUMNS, cells, json_rows
from preceptor.score_view.paint import show
from preceptor.score_view.scale import DISAGREEMENT, SCALES, TEACHER
from preceptor.score_view.subject import read_records
from preceptor.score_view.text import PART, alone, quoted, readable, safe
from preceptor.types import ModelRef, Receipt, Validity


def pieces(*raws: bytes) -> list[Piece]:
    return [Piece(raw, False) for raw in raws]


# ---------------------------------------------------------------- text


def test_a_character_stands_at_the_token_that_completes_it():
    assert readable(pieces(b"a", b"\xe2", b"\x82", b"\xacb")) == ["a", PART, PART, "€b"]
    assert readable([*pieces(b"\xe2"), Piece(b"<|eos|>", True), *pieces(b"x")]) == [PART, "\\xe2<|eos|>", "x"]
    assert alone(Piece(b"\xe2", False)) == "\\xe2"


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_any_bytes_can_be_shown_and_whole_text_is_shown_as_it_is(raws):
    assert len(readable(pieces(*raws))) == len(raws)
    text = "".join(readable(pieces(*raws)))
    try:
        whole = b"".join(raws).decode()
    except UnicodeDecodeError:
        return
    assert text.replace(PART, "") == whole.replace(PART, "")


@given(st.text())
def test_nothing_that_a_model_writes_commands_the_terminal(text):
    assert safe(text).isprintable()


def test_blanks_and_controls_are_seen():
    assert safe("a\n\t\x1b[31m\u202e ") == "a⏎⇥\\x1b[31m\\u202e "
    assert quoted(" x") == "' x'"


# ---------------------------------------------------------------- scale


@given(st.sampled_from(sorted(SCALES)), st.floats(allow_nan=False))
def test_every_value_has_the_highest_step_that_it_reaches(by, value):
    scale = SCALES[by]
    step = scale.step(value)
    assert step is not None
    assert value >= step.least
    assert all(value < other.least for other in scale.steps[: scale.steps.index(step)])


def test_steps_change_where_their_labels_say():
    assert TEACHER.step(math.log(0.9)).label == ">= 90%"
    assert TEACHER.step(math.log(0.8999)).label == ">= 50%"
    assert TEACHER.step(-math.inf).label == "< 0.1%"
    assert DISAGREEMENT.step(0.0).style == ""
    assert DISAGREEMENT.step(3.0).ground != DISAGREEMENT.step(-3.1).ground
    assert TEACHER.step(math.nan) is None


@pytest.mark.parametrize("by", sorted(SCALES))
def test_ink_and_ground_of_every_step_differ_enough_to_be_read(by):
    for step in SCALES[by].steps:
        if step.ground:
            lighter, darker = sorted((luminance(step.ground), luminance(step.ink)), reverse=True)
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, step


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


# ---------------------------------------------------------------- records


def test_records_have_ids_and_may_have_log_probabilities():
    lines = ['{"context": [1], "response": [2, 3], "logprob_policy": [-0.5, "-inf"]}', "", '{"context": [1], "response": []}']
    first, second = read_records(lines, "file")
    assert first.student.tolist() == [-0.5, -math.inf]
    assert (second.source, second.student, second.sequence.row_count) == ("file:3", None, 0)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("", "from"),
        ("{", "from"),
        ("[" * 100_000, "from"),
        ("[]", "from"),
        ('{"context": [1]}', "response"),
        ('{"context": [1.0], "response": [2]}', "context"),
        ('{"context": [true], "response": [2]}', "context"),
        ('{"context": [-1], "response": [2]}', "context"),
        ('{"context": [1], "response": [4294967296]}', "response"),
        ('{"context": [], "response": [2]}', "context"),
        ('{"context": [1], "response": [2], "logprobs": []}', "logprobs"),
        ('{"context": [1], "response": [2], "logprob_policy": []}', "logprob_policy"),
        ('{"context": [1], "response": [2], "logprob_policy": [0.5]}', "logprob_policy"),
        ('{"context": [1], "response": [2], "logprob_policy": [NaN]}', "logprob_policy"),
        ('{"context": [1], "response": [2], "logprob_policy": [false]}', "logprob_policy"),
    ],
)
def test_a_wrong_record_is_refused_by_its_field(line, field):
    with pytest.raises(InvalidArgument) as caught:
        read_records([line], "file")
    assert caught.value.field == field


# ---------------------------------------------------------------- what is shown


def token(row: int, text: str, teacher: float, student: float = math.nan, top=()) -> Token:
    return Token(row, 40 + row, text, Piece(text.encode(), False), Validity.OK, teacher, student, top)


LOOK = Look(
    "drawn",
    "<|user|>3+4",
    (
        token(0, "7", -0.01, -0.02, (Alternative(40, "7", -0.01), Alternative(9, "\t", -5.0))),
        token(1, "\x1b[2J", -8.0, -0.5),
        token(2, "x\n", math.nan, -1.0),
        token(3, "y", -math.inf, -0.1),
    ),
    Receipt(ModelRef("big"), engine="hf", dtype="f32"),
)


def shown(by="teacher", **console) -> str:
    out = io.StringIO()
    made = Console(file=out, force_terminal=True, width=100, highlight=False, _environ={}, **console)
    show([LOOK], by, rows=True, console=made)
    return out.getvalue()


def test_tokens_stand_on_the_colour_of_their_step_and_commands_are_written_out():
    text = shown(color_system="truecolor")
    assert "48;2;168;28;23m\\x1b[2J" in text, "the unlikely token, on the last step's ground"
    assert "\x1b[2J" not in text
    assert "row 3 'y' -inf" in text


def test_without_colours_the_unlikely_is_still_told_apart():
    text = shown(no_color=True, color_system="truecolor")
    assert "48;2" not in text
    assert "\x1b[1;4m\\x1b[2J" in text


def test_the_other_scale_colours_by_disagreement():
    text = shown("disagreement", color_system="truecolor")
    assert "student - teacher, nats" in text
    assert ">= 3: 2" in text, "7.5 nats, and the token that the teacher calls impossible"
    assert "missing: 1" in text


def test_rows_for_programs_keep_missing_and_impossible_apart():
    rows = [json.loads(json.dumps(row, allow_nan=False)) for row in json_rows([LOOK])]
    assert [row["teacher_logprob"] for row in rows] == [-0.01, -8.0, None, "-inf"]
    assert [row["disagreement"] for row in rows][2:] == [None, "inf"]
    assert rows[0]["top"] == [{"id": 40, "text": "7", "logprob": -0.01}, {"id": 9, "text": "\t", "logprob": -5.0}]
    lines = list(cells([LOOK]))
    assert {len(line) for line in lines} == {len(COLUMNS)}
    assert not any("\t" in cell or "\n" in cell for line in lines for cell in line)
