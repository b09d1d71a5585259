"""Keys are golden strings, and no name reaches into another key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor.errors import InvalidArgument, TooLarge
from preceptor.queue import Flow, LogName, Subscriber
from preceptor.queue.keys import flows_key, kind_of, leases_key, quota_key, slot_tag
from preceptor.queue.ranks import BANDS, SPAN, range_start, ready_score
from preceptor.types import RolloutId

FLOW = Flow("qwen3-8b", "acme", "run-7")
LOG = LogName.of("acme", "run-7", RolloutId("r", 12, 3, 0, 1))
NAMES = st.text(max_size=8)


def test_golden_keys() -> None:
    assert {
        FLOW.ready: "ready",
        FLOW.task("r/12/3/0/1/math"): "task",
        FLOW.out: "out",
        FLOW.dead: "dead",
        FLOW.blob("00ff-0-32"): "blob",
        flows_key("qwen3-8b"): "flows",
        leases_key("qwen3-8b"): "leases",
        quota_key("qwen3-8b", "acme"): "quota",
        LOG.ids: "ids",
        LOG.subs: "subs",
    } == {
        "pc1:{qwen3-8b}:acme:run-7:ready": "ready",
        "pc1:{qwen3-8b}:acme:run-7:task:r/12/3/0/1/math": "task",
        "pc1:{qwen3-8b}:acme:run-7:out": "out",
        "pc1:{qwen3-8b}:acme:run-7:dead": "dead",
        "pc1:{qwen3-8b}:acme:run-7:blob:00ff-0-32": "blob",
        "pc1:{qwen3-8b}:flows": "flows",
        "pc1:{qwen3-8b}:leases": "leases",
        "pc1:{qwen3-8b}:quota:acme": "quota",
        "pc1:{log:acme:run-7:r/12/3/0/1}:ids": "ids",
        "pc1:{log:acme:run-7:r/12/3/0/1}:subs": "subs",
    }
    keys = (
        FLOW.ready,
        FLOW.task("a"),
        FLOW.out,
        FLOW.dead,
        FLOW.blob("a"),
        LOG.ids,
        LOG.subs,
        flows_key("t"),
        quota_key("t", "a"),
    )
    assert [kind_of(key) for key in keys] == ["ready", "task", "out", "dead", "blob", "ids", "subs", "flows", "quota"]


@pytest.mark.parametrize("tenant", ["flows", "leases", "quota", "ids", "log"])
def test_a_tenant_called_like_a_key_is_not_one(tenant: str) -> None:
    flow = Flow("log", tenant, "ready")
    assert (kind_of(flow.out), kind_of(flow.task("ids")), slot_tag(flow.out)) == ("out", "task", "log")
    assert slot_tag(LogName(tenant, "ready", "a").ids) == f"log:{tenant}:ready:a"


@pytest.mark.parametrize("bad", ["", "a:b", "a{b", "a}b", "a b", "a\nb", "a/b", "-a", ".a", "ä", "a\x00", "a\n"])
def test_names_that_could_reach_elsewhere_are_refused_by_field(bad: str) -> None:
    for make, field in (
        (lambda: Flow(bad, "a", "a"), "teacher"),
        (lambda: Flow("a", bad, "a"), "tenant"),
        (lambda: Flow("a", "a", bad), "job"),
        (lambda: LogName(bad, "a", "a"), "tenant"),
        (lambda: LogName("a", bad, "a"), "job"),
        (lambda: quota_key("a", bad), "tenant"),
        (lambda: flows_key(bad), "teacher"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            make()
        assert caught.value.field == field
    if bad != "a/b":
        for make_id in (lambda: FLOW.task(bad), lambda: FLOW.blob(bad), lambda: LogName("a", "a", bad)):
            with pytest.raises(InvalidArgument):
                make_id()


def test_names_are_bounded() -> None:
    for make in (lambda: Flow("t" * 257, "a", "a"), lambda: Flow("t", "a" * 129, "a"), lambda: FLOW.task("a" * 257)):
        with pytest.raises(TooLarge):
            make()
    assert len(Flow("t" * 256, "a" * 128, "a" * 128).task("a" * 256)) < 1024


@given(NAMES, NAMES, NAMES, NAMES)
def test_whatever_is_accepted_is_read_back_from_its_key(teacher: str, tenant: str, job: str, task_id: str) -> None:
    try:
        key = Flow(teacher, tenant, job).task(task_id)
    except InvalidArgument:
        return
    assert key.split(":") == ["pc1", f"{{{teacher}}}", tenant, job, "task", task_id]
    assert Subscriber.parse(str(Subscriber(teacher, task_id))) == Subscriber(teacher, task_id)


DEADLINES = st.integers(0, SPAN - 1)


@given(DEADLINES, DEADLINES, st.integers(0, BANDS - 1), st.integers(0, BANDS - 1), st.booleans(), st.booleans())
def test_scores_order_by_suspicion_then_band_then_deadline_exactly(
    first_ms: int, second_ms: int, first_band: int, second_band: int, first_suspect: bool, second_suspect: bool
) -> None:
    first = ready_score(first_ms, first_band, suspect=first_suspect)
    second = ready_score(second_ms, second_band, suspect=second_suspect)
    expected = (first_suspect, first_band, first_ms) < (second_suspect, second_band, second_ms)
    assert (first < second) == expected
    start = range_start(first_band, suspect=first_suspect)
    assert start <= first < start + SPAN
    assert first - start == first_ms
