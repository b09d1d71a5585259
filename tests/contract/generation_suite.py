"""What every generation engine has to do, against the whole model in float64. One subject is one started engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.tiny.tokenizer import EOS_ID
from preceptor import wire
from preceptor.errors import Conflict, Corrupt, Unsupported, VersionGone
from preceptor.philox import rollout_uniform
from preceptor.types import FinishReason, ModelRef, Rollout
from preceptor_proto.v1 import rollout_pb2
from preceptor_rollout import chunks
from preceptor_rollout.calls import GENERATE
from preceptor_rollout.units import Unit
from preceptor_serving.engines.protocol import Engine, OffersMethods

N1 = 1e-4
SEED, STEP = 7, 3
Rows = Callable[[NDArray[np.uint32]], NDArray[np.float64]]
"""Ids of a sequence -> logits [ids, rows of the head]; entry i predicts token i + 1."""
Names = dict[tuple[int, int], Rollout]


@dataclass(frozen=True)
class GenerationSubject:
    """An engine, what its weights say, and other weights of the same model. `chunk_tokens` is what it was told."""

    engine: Engine
    logits: Rows
    prompts: Mapping[int, Sequence[int]]
    chunk_tokens: int
    next_folder: str
    next_logits: Rows
    broken_folder: str
    ends_by_itself: bool

    @property
    def base(self) -> ModelRef:
        return self.engine.describe()[-1].model

    @property
    def size(self) -> int:
        return self.engine.describe()[0].tokenizer_size


@dataclass
class Stream:
    """One unit on its way through, as a host advances it."""

    replies: Any
    contexts: Mapping[int, Any]
    chunks: list[chunks.Chunk] = field(default_factory=list)
    ended: bool = False

    def turn(self) -> None:
        reply = next(self.replies, None)
        self.ended = reply is None
        self.chunks += chunks.from_bytes(reply or b"")

    def rollouts(self) -> Names:
        by_name: dict[tuple[int, int], list[chunks.Chunk]] = {}
        for chunk in self.chunks:
            by_name.setdefault((chunk.id.prompt, chunk.id.sample), []).append(chunk)
        joined = {name: chunks.joined(parts, chunks.turn_of(parts, self.contexts[name[0]])) for name, parts in by_name.items()}
        return {name: wire.rollout_from_proto(one) for name, one in joined.items()}


def asked(
    prompts: Mapping[int, Sequence[int]], samples: int = 2, sampling: Mapping[str, Any] | None = None, **fields: Any
) -> rollout_pb2.GenerateRequest:
    """At most 24 tokens, unless said otherwise."""
    drawn_by = rollout_pb2.Sampling(**{"max_new_tokens": 24, **(sampling or {})})
    message = rollout_pb2.GenerateRequest(run="r", step=STEP, seed=SEED, sampling=drawn_by, **fields)
    for prompt, ids in prompts.items():
        message.prompts.add(prompt=prompt, context=wire.ids_to_proto(ids), samples=samples)
    return message


def stream(subject: GenerationSubject, message: rollout_pb2.GenerateRequest, version: ModelRef | None = None) -> Stream:
    assert isinstance(subject.engine, OffersMethods)
    replies = subject.engine.methods()[GENERATE](Unit(version or subject.base, message).to_bytes())
    return Stream(replies, {prompt.prompt: prompt.context for prompt in message.prompts})


def in_turns(*streams: Stream) -> None:
    """Until all have ended."""
    while running := [one for one in streams if not one.ended]:
        for one in running:
            one.turn()


def draw(subject: GenerationSubject, message: rollout_pb2.GenerateRequest, version: ModelRef | None = None) -> Names:
    one = stream(subject, message, version)
    in_turns(one)
    return one.rollouts()


def ids_of(names: Names) -> dict[tuple[int, int], list[int]]:
    return {name: one.sequence.ids.tolist() for name, one in names.items()}


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = logits - logits.max(-1, keepdims=True)
    return highest - np.log(np.exp(highest).sum(-1, keepdims=True))


def exact_policy(logits: Rows, rollout: Rollout, temperature: float = 1.0) -> NDArray[np.float64]:
    """Log-probabilities [response tokens, rows of the head]."""
    return log_softmax(logits(rollout.sequence.ids)[rollout.sequence.targets - 1] / temperature)


def kept(policy: NDArray[np.float64], size: int, top_k: int, top_p: float) -> NDArray[np.float64]:
    """The distribution that is drawn from, one row, by plain sorting."""
    order = np.argsort(-policy[:size], kind="stable")[: top_k or size]
    mass = np.exp(policy[order])
    before = np.cumsum(mass) - mass
    chosen = order[(before < top_p * mass.sum()) | (np.arange(len(order)) == 0)]
    out = np.zeros(size)
    out[chosen] = np.exp(policy[chosen])
    return out / out.sum()


def assert_drawn_as_counted(
    logits: Rows, name: tuple[int, int], rollout: Rollout, size: int, sampling: Mapping[str, Any] | None = None
) -> None:
    """Every token is the one that its number falls upon, and both columns are the exact log-probabilities."""
    bent = sampling or {}
    policy = exact_policy(logits, rollout, bent.get("temperature", 1.0))
    behaviour = rollout.behaviour
    assert behaviour.logprob_policy is not None
    assert behaviour.logprob_behaviour is not None
    for position, token in enumerate(rollout.sequence.response_ids.tolist()):
        share = kept(policy[position], size, bent.get("top_k", 0), bent.get("top_p", 1.0))
        number = float(rollout_uniform(SEED, STEP, name[0], name[1], position))
        reached = np.cumsum(share)
        assert reached[token] - share[token] - N1 <= number <= reached[token] + N1, (name, position)
        assert abs(behaviour.logprob_policy[position] - policy[position, token]) <= N1
        assert abs(behaviour.logprob_behaviour[position] - np.log(share[token])) <= N1


class GenerationContract:
    """Subclass it with a `subject` fixture."""

    @pytest.mark.parametrize(
        "sampling", [{}, {"temperature": 0.7}, {"temperature": 1.3, "top_p": 0.8, "top_k": 20}, {"top_p": 0.5}]
    )
    def test_tokens_are_drawn_by_counter_from_what_the_weights_say(
        self, subject: GenerationSubject, sampling: dict[str, Any]
    ) -> None:
        rollouts = draw(subject, asked(subject.prompts, 3, sampling))
        assert rollouts.keys() == {(prompt, sample) for prompt in subject.prompts for sample in range(3)}
        for name, rollout in rollouts.items():
            assert_drawn_as_counted(subject.logits, name, rollout, subject.size, sampling)
            assert np.asarray(rollout.behaviour.versions).tolist() == [subject.base.step] * rollout.sequence.row_count
            assert np.asarray(rollout.behaviour.provenance).tolist() == [0] * rollout.sequence.row_count

    def test_the_policys_likeliest_ids_come_with_every_token(self, subject: GenerationSubject) -> None:
        for rollout in draw(subject, asked(subject.prompts, 2, student_topk=5)).values():
            assert rollout.student_topk is not None
            ids = rollout.student_topk.ids.reshape(-1, 5)
            exact = exact_policy(subject.logits, rollout)[:, : subject.size]
            values = np.take_along_axis(exact, ids.astype(np.int64), 1)
            assert all(len(set(row)) == 5 for row in ids.tolist())
            assert (np.diff(values, axis=1) <= N1).all()
            assert (values[:, -1] >= np.sort(exact, 1)[:, -5] - N1).all()
            assert len(ids) == rollout.sequence.row_count

    def test_ids_beyond_the_tokenizer_are_never_drawn_and_never_listed(self, subject: GenerationSubject) -> None:
        for rollout in draw(subject, asked(subject.prompts, 4, {"temperature": 3.0}, student_topk=5)).values():
            assert rollout.student_topk is not None
            assert max(rollout.sequence.response_ids.max(), rollout.student_topk.ids.max()) < subject.size

    def test_greedy_is_certain_and_the_same_for_every_sample(self, subject: GenerationSubject) -> None:
        rollouts = draw(subject, asked(subject.prompts, 2, {"temperature": 0.0}))
        for (prompt, _), rollout in rollouts.items():
            exact = exact_policy(subject.logits, rollout)
            drawn = exact[np.arange(len(exact)), rollout.sequence.response_ids]
            assert (drawn >= exact[:, : subject.size].max(1) - N1).all()
            assert rollout.behaviour.logprob_behaviour is not None
            assert rollout.behaviour.logprob_policy is not None
            assert rollout.behaviour.logprob_behaviour.tolist() == [0.0] * rollout.sequence.row_count
            assert np.abs(rollout.behaviour.logprob_policy - drawn).max() <= N1
            assert rollout.sequence.ids.tolist() == rollouts[prompt, 0].sequence.ids.tolist()

    # ---- ends

    def test_a_response_ends_with_its_eos_unless_that_is_ignored(self, subject: GenerationSubject) -> None:
        sampling = {"temperature": 0.0, "max_new_tokens": 60}
        ended = draw(subject, asked(subject.prompts, 1, sampling))
        on = draw(subject, asked(subject.prompts, 1, {**sampling, "ignore_eos": True}))
        if subject.ends_by_itself:
            assert {one.finish_reason for one in ended.values()} == {FinishReason.EOS}
        for name, rollout in ended.items():
            assert (on[name].finish_reason, on[name].sequence.row_count) == (FinishReason.LENGTH, 60)
            rows = rollout.sequence.row_count
            assert on[name].sequence.response_ids[:rows].tolist() == rollout.sequence.response_ids.tolist()
            assert (rollout.sequence.response_ids[-1] == EOS_ID) == (rollout.finish_reason is FinishReason.EOS)
            assert EOS_ID not in rollout.sequence.response_ids[:-1]

    def test_a_response_ends_with_its_length(self, subject: GenerationSubject) -> None:
        for rollout in draw(subject, asked(subject.prompts, 1, {"max_new_tokens": 4, "ignore_eos": True})).values():
            assert (rollout.finish_reason, rollout.sequence.row_count) == (FinishReason.LENGTH, 4)

    def test_a_stop_id_ends_a_response_and_stays_in_it(self, subject: GenerationSubject) -> None:
        free = draw(subject, asked(subject.prompts, 2, {"temperature": 3.0, "ignore_eos": True}))
        name, long = next(iter(free.items()))
        stop = int(long.sequence.response_ids[2])
        first = long.sequence.response_ids.tolist().index(stop)
        cut = draw(subject, asked(subject.prompts, 2, {"temperature": 3.0, "ignore_eos": True, "extra_stop_ids": [stop]}))
        assert cut[name].finish_reason is FinishReason.STOP
        assert cut[name].sequence.response_ids.tolist() == long.sequence.response_ids[: first + 1].tolist()
        for other, rollout in cut.items():
            rows = rollout.sequence.row_count
            assert rollout.sequence.response_ids.tolist() == free[other].sequence.response_ids[:rows].tolist()

    def test_a_stop_string_ends_a_response_and_is_cut_from_its_text_alone(self, subject: GenerationSubject) -> None:
        sampling = {"temperature": 3.0, "ignore_eos": True, "max_new_tokens": 16}
        free = draw(subject, asked(subject.prompts, 2, sampling))
        name, long = max(free.items(), key=lambda item: len(item[1].text))
        string = long.text[3:5]
        cut = draw(subject, asked(subject.prompts, 2, {**sampling, "stop": [string]}))[name]
        assert cut.finish_reason is FinishReason.STOP
        assert cut.text == long.text[: long.text.find(string)]
        assert cut.sequence.response_ids.tolist() == long.sequence.response_ids[: cut.sequence.row_count].tolist()

    # ---- turns, names, chunks, neighbours

    def test_draws_and_length_go_on_where_a_response_was_cut(self, subject: GenerationSubject) -> None:
        """As behind the answer of an environment: the tokens before stand in the context and count."""
        hot = {"temperature": 2.0, "ignore_eos": True}  # where the number that draws a token decides it
        for (prompt, _), whole in draw(subject, asked(subject.prompts, 1, hot)).items():
            ids = whole.sequence.response_ids.tolist()
            rest = asked({prompt: [*subject.prompts[prompt], *ids[:9]]}, 1, hot)
            rest.prompts[0].first_row = 9
            (cut,) = draw(subject, rest).values()
            assert cut.sequence.response_ids.tolist() == ids[9:]
            assert cut.finish_reason == whole.finish_reason

    def test_samples_are_named_not_counted(self, subject: GenerationSubject) -> None:
        every = ids_of(draw(subject, asked(subject.prompts, 4)))
        later = asked(subject.prompts, 2)
        for prompt in later.prompts:
            prompt.first_sample = 2
        assert ids_of(draw(subject, later)) == {name: ids for name, ids in every.items() if name[1] >= 2}

    def test_chunks_are_as_long_as_was_said_and_the_last_one_says_why_it_ended(self, subject: GenerationSubject) -> None:
        one = stream(subject, asked(subject.prompts, 2, {"max_new_tokens": 40}, student_topk=2))
        in_turns(one)
        for name in one.rollouts():
            own = [chunk for chunk in one.chunks if (chunk.id.prompt, chunk.id.sample) == name]
            lengths = [len(chunks.response_of(chunk).response.u32le) // 4 for chunk in own]
            assert lengths[:-1] == [subject.chunk_tokens] * (len(own) - 1)
            assert 0 < lengths[-1] <= subject.chunk_tokens
            assert [chunks.is_last(chunk) for chunk in own] == [False] * (len(own) - 1) + [True]

    def test_units_that_run_beside_each_other_draw_what_each_draws_alone(self, subject: GenerationSubject) -> None:
        halves = [dict(list(subject.prompts.items())[part::2]) for part in (0, 1)]
        messages = [asked(halves[0], 3), asked(halves[1], 2, {"temperature": 1.3, "top_k": 9}, student_topk=3)]
        alone = [ids_of(draw(subject, message)) for message in messages]
        together = [stream(subject, message) for message in messages]
        in_turns(*together)
        assert [ids_of(one.rollouts()) for one in together] == alone

    def test_a_unit_that_is_given_up_leaves_the_others_alone(self, subject: GenerationSubject) -> None:
        message = asked(subject.prompts, 2)
        want = ids_of(draw(subject, message))
        given_up, stays = stream(subject, asked(subject.prompts, 4, {"max_new_tokens": 40})), stream(subject, message)
        given_up.turn()
        stays.turn()
        given_up.replies.close()
        in_turns(stays)
        assert ids_of(stays.rollouts()) == want

    # ---- versions

    def test_a_unit_ends_under_the_weights_it_began_with(self, subject: GenerationSubject) -> None:
        """Also where the next unit, which waits beside it, needs others."""
        newer = ModelRef("tiny", "r", 1, 5, b"\1" * 32)
        message = asked(subject.prompts, 2)
        before, after = stream(subject, message), stream(subject, message, newer)
        before.turn()
        subject.engine.load_version(newer, subject.next_folder)
        in_turns(before, after)
        for name, rollout in before.rollouts().items():
            assert_drawn_as_counted(subject.logits, name, rollout, subject.size)
            assert set(np.asarray(rollout.behaviour.versions).tolist()) == {0}
        for name, rollout in after.rollouts().items():
            assert_drawn_as_counted(subject.next_logits, name, rollout, subject.size)
            assert (set(np.asarray(rollout.behaviour.versions).tolist()), rollout.model) == ({5}, newer)
        assert subject.engine.describe()[0].model == newer
        again = draw(subject, message, subject.base)
        assert ids_of(again) == ids_of(before.rollouts())
        subject.engine.drop_version(newer)

    def test_a_version_that_was_dropped_is_gone_and_the_last_one_stays(self, subject: GenerationSubject) -> None:
        newer = ModelRef("tiny", "r", 1, 6, b"\2" * 32)
        with pytest.raises(VersionGone):
            draw(subject, asked(subject.prompts, 1), newer)
        subject.engine.load_version(newer, subject.next_folder)
        subject.engine.drop_version(newer)
        with pytest.raises(VersionGone):
            draw(subject, asked(subject.prompts, 1), newer)
        with pytest.raises(Conflict):
            subject.engine.drop_version(subject.base)

    def test_weights_that_diverged_are_named(self, subject: GenerationSubject) -> None:
        broken = ModelRef("tiny", "r", 1, 9, b"\3" * 32)
        subject.engine.load_version(broken, subject.broken_folder)
        with pytest.raises(Corrupt, match="not numbers") as failed:
            draw(subject, asked(subject.prompts, 1), broken)
        assert failed.value.value == "step 9"
        subject.engine.drop_version(broken)
        name, rollout = next(iter(draw(subject, asked(subject.prompts, 1), subject.base).items()))
        assert_drawn_as_counted(subject.logits, name, rollout, subject.size)

    def test_scoring_belongs_to_a_teacher(self, subject: GenerationSubject) -> None:
        with pytest.raises(Unsupported):
            subject.engine.score([])
