"""The tier in memory against a plain list: what is there, in which order it leaves, and that the bound holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preceptor_teacher.cache.memory import ENTRY_BYTES, MemoryTier

KEYS = st.sampled_from([bytes([n]) * 32 for n in range(12)])
MOVES = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.integers(0, 900))), max_size=80)


@given(MOVES, st.integers(0, 4000))
def test_the_least_recently_used_leave_first_and_the_bound_holds(moves, max_bytes):
    tier = MemoryTier(max_bytes)
    order: list[tuple[bytes, bytes]] = []  # least recently used first
    for key, size in moves:
        known = dict(order)
        if size is None:
            assert tier.get(key) == known.get(key)
            if key in known:
                order = [one for one in order if one[0] != key] + [(key, known[key])]
        else:
            tier.put(key, bytes(size))
            order = [one for one in order if one[0] != key]
            if size + ENTRY_BYTES <= max_bytes:
                order.append((key, bytes(size)))
            while sum(len(value) + ENTRY_BYTES for _, value in order) > max_bytes:
                order.pop(0)
        assert tier.used_bytes == sum(len(value) + ENTRY_BYTES for _, value in order) <= max_bytes
        assert len(tier) == len(order)
    assert {key: tier.get(key) for key, _ in order} == dict(order)
