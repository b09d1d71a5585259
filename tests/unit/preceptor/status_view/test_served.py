"""What `preceptor teachers` shows: each version with its teacher's standing, and addresses that do not answer."""

from __future__ import annotations

from dataclasses import replace

from preceptor.status_view.served import SERVED, Seen, served_cells, served_table, served_values
from preceptor.types import Capabilities, ModelInfo, ModelRef, TeacherStanding, TeacherState

INFO = ModelInfo(
    ModelRef("math", "", 0, 0, b"\x01" * 32), b"\x02" * 32, b"\x03" * 32, 50, 64, "f32", "hf", "1", "1", Capabilities(max_topk=9)
)
DEAD = TeacherStanding("math", TeacherState.DEAD, 90.0)
STARTING = TeacherStanding("code", TeacherState.STARTING)
SEEN = Seen("a:1", (INFO, replace(INFO, model=replace(INFO.model, run="r", step=3))), (DEAD, STARTING))


def columns(rows: list[tuple[str, ...]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[SERVED.index(name)] for name in names) for row in rows]


def test_every_version_has_its_teachers_standing_and_what_is_not_loaded_has_a_row() -> None:
    rows = served_cells([SEEN, Seen("b:1", silent="nobody there")])
    assert columns(rows, "name", "state", "heard", "at", "engine") == [
        ("math", "dead", "1.5 min ago", "a:1", "hf f32"),
        ("math", "dead", "1.5 min ago", "a:1", "hf f32"),
        ("code", "starting", "-", "a:1", "-"),
        ("-", "no answer", "-", "b:1", "-"),
    ]
    assert {len(row) for row in rows} == {len(SERVED)}


def test_a_key_that_may_not_ask_and_an_older_service_leave_the_state_open() -> None:
    assert columns(served_cells([replace(SEEN, standings=())]), "state", "heard") == [("-", "-")] * 2


def test_name_and_state_stay_in_eighty_columns() -> None:
    made = served_table([SEEN, replace(SEEN, address="b:1")], 80)
    assert made.width <= 80
    assert {"name", "state", "heard", "at"} <= set(made.columns)
    assert "template" in made.left_out


def test_programs_get_all_of_it() -> None:
    first, _, unloaded = served_values(SEEN)
    assert (first["state"], first["heard_s"], first["address"]) == ("dead", 90.0, "a:1")
    assert (first["model"]["manifest_sha256"], first["capabilities"]["max_topk"]) == ("01" * 32, 9)
    assert unloaded == {"model": {"name": "code"}, "address": "a:1", "state": "starting", "heard_s": None}
