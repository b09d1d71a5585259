"""The Lua scripts are the declared steps, and none of them leaves its slot."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

import preceptor.queue.scripts.flows
import preceptor.queue.scripts.leases
import preceptor.queue.scripts.letters
import preceptor.queue.scripts.logs
import preceptor.queue.scripts.quotas
import preceptor.queue.scripts.results
import preceptor.queue.scripts.tasks  # noqa: F401  each declares its steps when it is imported
from preceptor.queue import Flow, LogName
from preceptor.queue.keys import quota_key, usage_key
from preceptor.queue.redis.doors import flow_keys
from preceptor.queue.redis.loading import ALWAYS, FOLDER, scripts
from preceptor.queue.scripts import SCRIPTS

OWN = {"shorten_leases"}  # memory needs none: there, the process that jumps is the process that waits
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,40}", fullmatch=True)


def test_every_declared_step_is_a_script_and_the_other_way_round() -> None:
    assert set(scripts()) == set(SCRIPTS) | OWN


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_touches_no_kind_of_key_that_its_step_does_not_declare(name: str) -> None:
    assert scripts()[name].kinds <= SCRIPTS[name]


@pytest.mark.parametrize("name", sorted(scripts()))
def test_a_script_uses_exactly_the_keys_and_arguments_of_its_head(name: str) -> None:
    """Names that only the shared part uses count when the script calls into it; none may be read that the head lacks."""
    script = scripts()[name]
    body = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    assert set(re.findall(r"\bK\.(\w+)", body)) <= set(script.keys)
    assert set(re.findall(r"\bA\.(\w+)", body)) <= set(script.arguments)
    everything = body + (FOLDER / "common.lua").read_text(encoding="utf-8")
    assert set(script.keys) <= set(re.findall(r"\bK\.(\w+)", everything))
    assert set(script.arguments) - set(ALWAYS) <= set(re.findall(r"\bA\.(\w+)", everything))


@given(teacher=NAMES, tenants=st.tuples(NAMES, NAMES), jobs=st.tuples(NAMES, NAMES), ids=st.tuples(IDS, IDS))
def test_all_keys_of_a_teacher_are_in_one_slot_whatever_the_job(
    teacher: str, tenants: tuple[str, str], jobs: tuple[str, str], ids: tuple[str, str]
) -> None:
    keys: list[str] = []
    for tenant, job, name in zip(tenants, jobs, ids, strict=True):
        flow = Flow(teacher, tenant, job)
        keys += [
            *flow_keys(flow).values(),
            flow.task(name),
            flow.blob(name),
            quota_key(teacher, tenant),
            usage_key(teacher, tenant),
        ]
    assert len({key_slot(key.encode()) for key in keys}) == 1


@given(tenant=NAMES, job=NAMES, attempt=IDS)
def test_both_keys_of_a_log_are_in_one_slot(tenant: str, job: str, attempt: str) -> None:
    log = LogName(tenant, job, attempt)
    assert key_slot(log.ids.encode()) == key_slot(log.subs.encode())


def test_logs_spread_over_slots_so_that_a_cluster_shares_their_load() -> None:
    slots = {key_slot(LogName("acme", "job", f"run/1/{n}/0/0").ids.encode()) for n in range(64)}
    assert len(slots) > 48
