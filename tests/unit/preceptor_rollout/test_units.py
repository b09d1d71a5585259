"""How requests are cut into batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preceptor import wire
from preceptor.types import ModelRef
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout.units import Unit, UnitSize, cut_into_units, most_tokens, prompt_tokens, rollouts_of

BATCH_TOKENS = 64
SIZE = UnitSize(BATCH_TOKENS)
GROUPS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3)), min_size=1, max_size=8)


def request_of(groups, new_tokens: int, *, deterministic: bool) -> rollout_pb2.GenerateRequest:
    """`groups`: (prompt tokens, samples, first sample)."""
    request = rollout_pb2.GenerateRequest(
        run="r", step=3, seed=5, deterministic=deterministic, sampling=rollout_pb2.Sampling(max_new_tokens=new_tokens)
    )
    for prompt, (tokens, samples, first) in enumerate(groups):
        context = wire.ids_to_proto([prompt] * tokens)
        request.prompts.add(prompt=prompt, context=context, samples=samples, first_sample=first, attempt=1)
    return request


@given(groups=GROUPS, new_tokens=st.integers(1, 30), deterministic=st.booleans())
def test_every_rollout_is_in_one_unit_and_every_unit_in_the_budget(groups, new_tokens, deterministic):
    request = request_of(groups, new_tokens, deterministic=deterministic)
    units = cut_into_units(request, SIZE)
    assert sorted(map(str, (r for unit in units for r in rollouts_of(unit)))) == sorted(map(str, rollouts_of(request)))
    for unit in units:
        sequences = sum(prompt.samples for prompt in unit.prompts)
        longest = max(len(prompt.context.u32le) // 4 for prompt in unit.prompts)
        assert sequences * (longest + new_tokens) <= BATCH_TOKENS or sequences == 1
        assert (unit.run, unit.step, unit.seed, unit.sampling) == (request.run, request.step, request.seed, request.sampling)


@given(groups=GROUPS, new_tokens=st.integers(1, 30), batches=st.integers(1, 5))
def test_a_unit_holds_several_batches_only_where_sequences_may_wait(groups, new_tokens, batches):
    size = UnitSize(BATCH_TOKENS, batches)
    request = request_of(groups, new_tokens, deterministic=False)
    units = cut_into_units(request, size)
    assert sorted(map(str, (r for unit in units for r in rollouts_of(unit)))) == sorted(map(str, rollouts_of(request)))
    for unit in units:
        tokens = sum(prompt.samples for prompt in unit.prompts) * (max(map(prompt_tokens, unit.prompts)) + new_tokens)
        assert tokens <= batches * BATCH_TOKENS or len(unit.prompts) == 1
    for deterministic, policy_json in ((True, ""), (False, "{}")):
        alone = request_of(groups, new_tokens, deterministic=deterministic)
        alone.policy_json = policy_json
        assert cut_into_units(alone, size) == cut_into_units(alone, SIZE)


@given(groups=GROUPS, other=GROUPS, new_tokens=st.integers(1, 30))
def test_a_deterministic_unit_depends_on_its_own_prompt_alone(groups, other, new_tokens):
    alone = cut_into_units(request_of(groups[:1], new_tokens, deterministic=True), SIZE)
    among = cut_into_units(request_of([groups[0], *other], new_tokens, deterministic=True), SIZE)
    assert [unit.prompts for unit in alone] == [unit.prompts for unit in among if unit.prompts[0].prompt == 0]
    assert all(len(unit.prompts) == 1 for unit in among)


def test_what_waits_is_in_the_unit_of_those_it_waits_for():
    request = request_of([(4, 2, 0)] * 12, 4, deterministic=False)
    assert [len(cut_into_units(request, UnitSize(BATCH_TOKENS, batches))) for batches in (1, 2, 3)] == [3, 2, 1]


def test_prompts_of_one_length_share_a_batch_in_the_callers_order():
    (unit,) = cut_into_units(request_of([(4, 2, 0)] * 3, 4, deterministic=False), SIZE)
    assert [prompt.prompt for prompt in unit.prompts] == [0, 1, 2]
    assert most_tokens(unit) == 3 * (4 + 2 * 4)


def test_a_unit_survives_the_way_to_the_engine():
    unit = Unit(ModelRef("s", "r", 1, 2, b"\0" * 32), request_of([(3, 2, 0)], 4, deterministic=True))
    assert Unit.from_bytes(unit.to_bytes()) == unit
