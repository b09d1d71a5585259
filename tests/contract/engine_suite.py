"""What every engine has to do, whichever model and library is behind it.

    class TestMyEngine(EngineContract):
        @pytest.fixture(scope="class")
        @classmethod
        def subject(cls) -> Subject: ...

Nothing here knows an engine. What an engine does not declare is not asked of it, except to be refused by name.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from preceptor.errors import Conflict, InvalidArgument, PreceptorError, TooLarge, Unsupported, VersionGone
from preceptor.types import RaggedIds, Rows, Scored, Sequence, TailOf, Validity, Want, Window
from preceptor_serving.engines.protocol import ScoreItem
from tests.contract.engine_cases import items, sequences
from tests.contract.engine_subjects import Subject
from tests.reference import score_oracle as oracle

EXAMPLES = 15
some = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])
PLAIN = Sequence.of([1, 2, 3], [4, 5, 6, 7])


def scored(subject: Subject, sequence: Sequence, want: Want) -> Scored:
    [outcome] = subject.score(ScoreItem(sequence, want))
    assert isinstance(outcome, Scored), outcome
    return outcome


def refused(subject: Subject, sequence: Sequence, want: Want) -> PreceptorError:
    [outcome] = subject.score(ScoreItem(sequence, want))
    assert isinstance(outcome, PreceptorError), outcome
    return outcome


def assert_same(left: Rows, right: Rows, noise_nats: float) -> None:
    """Equal rows: bit for bit where the engine has no noise, ids included."""
    assert left.start == right.start
    assert left.has_next == right.has_next
    assert left.validity.tobytes() == right.validity.tobytes()
    for name in ("sampled", "entropy", "tail"):
        close(getattr(left, name), getattr(right, name), noise_nats)
    for name in ("topk", "samples"):
        mine, other = getattr(left, name), getattr(right, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            close(mine.logprobs, other.logprobs, noise_nats)
            assert noise_nats or np.array_equal(mine.ids, other.ids)
    assert (left.candidates is None) == (right.candidates is None)
    if left.candidates is not None and right.candidates is not None:
        close(left.candidates.logprobs, right.candidates.logprobs, noise_nats)


def close(left, right, nats: float) -> None:
    """On the wire a column without rows is an absent one."""
    left, right = (None if values is None or not len(values) else values for values in (left, right))
    assert (left is None) == (right is None)
    if left is not None:
        if nats:
            np.testing.assert_allclose(left, right, rtol=0, atol=nats)
        else:
            np.testing.assert_array_equal(left, right)


class EngineContract:
    """Subclasses give the fixture `subject`, of class scope."""

    # ------------------------------------------------------------ against the oracle

    @some
    @given(data=st.data())
    def test_every_signal_is_what_the_logits_say(self, subject: Subject, data: st.DataObject) -> None:
        assume(subject.logits is not None)
        item = data.draw(items(subject.info))
        rows = scored(subject, item.sequence, item.want).rows
        expected = oracle.oracle_rows(item.sequence, item.want, subject.logits)
        assert rows.count == len(expected)
        for index, row in enumerate(expected):
            self.check_row(rows, index, row, item.want, subject)

    def check_row(self, rows: Rows, index: int, row: oracle.OracleRow, want: Want, subject: Subject) -> None:
        error = subject.error_nats
        if want.sampled:
            found = float(rows.sampled[index])
            assert math.isnan(found) if row.target is None else found == pytest.approx(row.logprobs[row.target], abs=error)
        if want.entropy:
            assert float(rows.entropy[index]) == pytest.approx(oracle.entropy(row.logprobs), abs=error)
        for lists in (rows.topk, rows.samples):
            if lists is not None:
                assert (lists.ids[index] < subject.info.tokenizer_size).all()
                np.testing.assert_allclose(lists.logprobs[index], row.logprobs[lists.ids[index]], rtol=0, atol=error)
        if rows.candidates is not None:
            ids = want.candidates.row(index)
            np.testing.assert_allclose(rows.candidates.row(index), row.logprobs[ids], rtol=0, atol=error)
        if want.tail is not TailOf.NONE:
            left_out = oracle.returned_ids(rows, index, want, row.target)
            assert float(rows.tail[index]) == pytest.approx(oracle.tail(row.logprobs, left_out), abs=error)

    @some
    @given(data=st.data())
    def test_topk_holds_the_largest_in_order_and_ties_go_to_the_lower_id(self, subject: Subject, data: st.DataObject) -> None:
        assume(subject.info.capabilities.max_topk > 0)
        sequence = data.draw(sequences(subject.info))
        k = data.draw(st.integers(1, min(subject.info.tokenizer_size, subject.info.capabilities.max_topk, 64)))
        want = Want(topk=k)
        lists = scored(subject, sequence, want).rows.topk
        assert lists.ids.shape == lists.logprobs.shape == (sequence.row_count, k)
        for ids, values in zip(lists.ids.tolist(), lists.logprobs.tolist(), strict=True):
            assert len(set(ids)) == k
            pairs = list(zip((-v for v in values), ids, strict=True))
            assert pairs == sorted(pairs)
        if subject.logits is not None:
            for index, row in enumerate(oracle.oracle_rows(sequence, want, subject.logits)):
                real = row.logprobs[: subject.info.tokenizer_size]
                outside = np.delete(real, lists.ids[index])
                assert not len(outside) or real[lists.ids[index]].min() >= outside.max() - subject.error_nats

    @some
    @given(data=st.data(), seed=st.integers(0, 2**64 - 1))
    def test_samples_are_drawn_by_counter_from_the_real_ids(self, subject: Subject, data: st.DataObject, seed: int) -> None:
        assume(subject.info.capabilities.max_samples >= 4 and subject.logits is not None)
        sequence = data.draw(sequences(subject.info))
        want = Want(samples=4, sample_seed=seed)
        lists = scored(subject, sequence, want).rows.samples
        for index, row in enumerate(oracle.oracle_rows(sequence, want, subject.logits)):
            uniforms = oracle.teacher_uniforms(seed, row.row, 4)
            for token, uniform in zip(lists.ids[index].tolist(), uniforms, strict=True):
                low, high = oracle.draw_interval(row.logprobs, token, subject.info.tokenizer_size)
                assert low - subject.error_nats <= uniform <= high + subject.error_nats

    def test_nothing_remains_outside_the_whole_vocabulary(self, subject: Subject) -> None:
        """The tail is then -inf, or exactly the padding's mass; never NaN and never a rounding residue."""
        size = subject.info.tokenizer_size
        if subject.info.capabilities.max_topk < size or subject.logits is None or not subject.info.capabilities.tail:
            pytest.skip("this engine cannot list its whole vocabulary")
        rows = scored(subject, PLAIN, Want(topk=size, tail=TailOf.TOPK)).rows
        for index, row in enumerate(oracle.oracle_rows(PLAIN, Want(), subject.logits)):
            expected = oracle.tail(row.logprobs, set(range(size)))
            assert float(rows.tail[index]) == pytest.approx(expected, abs=subject.error_nats)

    # ------------------------------------------------------------ rows

    @some
    @given(data=st.data())
    def test_a_window_is_a_cut_of_the_whole(self, subject: Subject, data: st.DataObject) -> None:
        sequence = data.draw(sequences(subject.info))
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, sequence.row_count)] * 2)))
        want = self.everything(subject)
        whole = scored(subject, sequence, want).rows
        cut = scored(subject, sequence, replace(want, window=Window(start, end))).rows
        assert (cut.start, cut.count) == (start, end - start)
        assert_same(cut, self.cut(whole, start, end), subject.noise_nats)

    def test_rows_run_through_all_turns(self, subject: Subject) -> None:
        turns = [("context", [1, 2]), ("response", [3, 4]), ("context", [5]), ("response", [6]), ("context", [7])]
        sequence = Sequence.of_turns(turns)
        want = replace(self.everything(subject), samples=0)  # draws depend on the row's index, which differs below
        rows = scored(subject, sequence, want).rows
        assert (rows.start, rows.count) == (0, 3)
        # The last turn's row is that of a sequence in which all before it is context.
        flat = scored(subject, Sequence.of([1, 2, 3, 4, 5], [6]), want).rows
        assert_same(replace(self.cut(rows, 2, 3), start=0), flat, subject.noise_nats)

    def test_every_view_of_a_rollout_has_the_same_rows(self, subject: Subject) -> None:
        plain = scored(subject, PLAIN, Want(sampled=True)).rows
        view = scored(subject, Sequence.of([9, 8, 7, 6, 5], [4, 5, 6, 7]), Want(sampled=True)).rows
        assert (view.start, view.count) == (plain.start, plain.count)

    def test_the_next_row_is_what_a_longer_sequence_starts_with(self, subject: Subject) -> None:
        if not subject.info.capabilities.next:
            assert refused(subject, PLAIN, Want(topk=1, next=True)).field == "want.next"
            return
        want = self.everything(subject)
        rows = scored(subject, PLAIN, replace(want, next=True)).rows
        assert rows.has_next
        assert rows.count == PLAIN.row_count + 1
        assert math.isnan(float(rows.sampled[-1]))
        longer = Sequence.of([1, 2, 3], [4, 5, 6, 7, 1])
        without_target = replace(want, sampled=False, tail=TailOf.TOPK, next=True)
        last = self.cut(scored(subject, PLAIN, without_target).rows, 4, 5)
        beyond = scored(subject, longer, replace(without_target, next=False, window=Window(4, 5))).rows
        assert_same(replace(last, has_next=False), beyond, subject.noise_nats)

    def test_a_sequence_without_responses_has_no_rows(self, subject: Subject) -> None:
        only_context = Sequence.of([1, 2, 3], [])
        assert scored(subject, only_context, self.everything(subject)).rows.count == 0
        if subject.info.capabilities.next:
            rows = scored(subject, only_context, Want(topk=2, next=True)).rows
            assert (rows.start, rows.count, rows.topk.ids.shape) == (0, 1, (1, 2))

    def test_only_what_was_wanted_comes_back_and_every_row_is_ok(self, subject: Subject) -> None:
        rows = scored(subject, PLAIN, Want(sampled=True)).rows
        assert rows.validity.tolist() == [Validity.OK] * 4
        absent = (rows.entropy, rows.tail, rows.topk, rows.candidates, rows.samples, rows.hidden)
        assert rows.sampled is not None
        assert absent == (None,) * 6

    def test_candidates_are_answered_in_the_callers_order(self, subject: Subject) -> None:
        lists = [[5, 1, 5], [], [2], [3, 2, 1, 0]]
        one = scored(subject, PLAIN, Want(candidates=RaggedIds.from_rows(lists))).rows.candidates
        backwards = RaggedIds.from_rows([row[::-1] for row in lists])
        other = scored(subject, PLAIN, Want(candidates=backwards)).rows.candidates
        for index, ids in enumerate(lists):
            assert len(one.row(index)) == len(ids)
            close(one.row(index)[::-1], other.row(index), subject.noise_nats)

    def test_hidden_states_come_one_a_row_with_the_digest_of_their_head(self, subject: Subject) -> None:
        if not subject.info.capabilities.hidden:
            assert refused(subject, PLAIN, Want(hidden=True)).field == "want.hidden"
            return
        outcome = scored(subject, PLAIN, Want(hidden=True))
        assert len(outcome.rows.hidden.states) == 4
        assert outcome.rows.hidden.head_sha256 == outcome.receipt.head_sha256 == subject.info.head_sha256 != b""

    # ------------------------------------------------------------ batches

    @some
    @given(data=st.data())
    def test_neighbours_order_and_repetition_change_nothing(self, subject: Subject, data: st.DataObject) -> None:
        batch = data.draw(st.lists(items(subject.info), min_size=2, max_size=5))
        alone = [scored(subject, item.sequence, item.want).rows for item in batch]
        order = data.draw(st.permutations(range(len(batch))))
        together = subject.score(*(batch[i] for i in order))
        for outcome, index in zip(together, order, strict=True):
            assert isinstance(outcome, Scored)
            assert_same(outcome.rows, alone[index], subject.noise_nats)

    def test_a_bad_item_fails_alone(self, subject: Subject) -> None:
        good = ScoreItem(PLAIN, Want(sampled=True))
        bad = ScoreItem(Sequence.of_turns([("response", [1, 2])]), Want(sampled=True))
        outcomes = subject.score(good, bad, good)
        expected = scored(subject, PLAIN, Want(sampled=True)).rows
        assert isinstance(outcomes[1], InvalidArgument)
        for outcome in (outcomes[0], outcomes[2]):
            assert isinstance(outcome, Scored)
            assert_same(outcome.rows, expected, subject.noise_nats)

    def test_an_empty_batch_is_no_error(self, subject: Subject) -> None:
        assert subject.score() == []

    # ------------------------------------------------------------ refusals

    def test_nothing_predicts_the_first_token(self, subject: Subject) -> None:
        headless = Sequence.of_turns([("response", [1, 2])])
        assert refused(subject, headless, Want(sampled=True)).field == "sequence.segments[0]"
        assert refused(subject, headless, Want(sampled=True, window=Window(1, 2))).field == "sequence.segments[0]"

    def test_ids_beyond_the_tokenizer_are_refused_by_place(self, subject: Subject) -> None:
        size = subject.info.tokenizer_size
        beyond = refused(subject, Sequence.of([1, size], [2]), Want(sampled=True))
        assert (beyond.field, beyond.value, beyond.limit) == ("sequence.segments[0].context[1]", str(size), f"< {size}")
        lists = RaggedIds.from_rows([[0], [size], [1], [1]])
        assert refused(subject, PLAIN, Want(candidates=lists)).field == "want.candidates.ids"
        assert isinstance(scored(subject, Sequence.of([size - 1], [size - 1]), Want(sampled=True)), Scored)

    @pytest.mark.parametrize(
        ("want", "field"),
        [
            (Want(sampled=True, window=Window(0, 5)), "want.window"),
            (Want(sampled=True, window=Window(3, 2)), "want.window"),
            (Want(sampled=True, temperature=0.0), "want.temperature"),
            (Want(sampled=True, temperature=-1.0), "want.temperature"),
            (Want(sampled=True, temperature=math.nan), "want.temperature"),
            (Want(log_candidates=True), "want.log_candidates"),
            (Want(candidates=RaggedIds.from_rows([[1]])), "want.candidates"),
        ],
    )
    def test_wrong_wants_are_refused_by_field(self, subject: Subject, want: Want, field: str) -> None:
        error = refused(subject, PLAIN, want)
        assert isinstance(error, InvalidArgument)
        assert (error.field, error.retryable) == (field, False)

    def test_more_than_the_engine_declares_is_refused_by_field(self, subject: Subject) -> None:
        can, size = subject.info.capabilities, subject.info.tokenizer_size
        assert refused(subject, PLAIN, Want(topk=size + 1)).field == "want.topk"
        assert isinstance(refused(subject, PLAIN, Want(topk=can.max_topk + 1)), InvalidArgument | Unsupported)
        assert isinstance(refused(subject, PLAIN, Want(samples=can.max_samples + 1)), Unsupported)
        if can.max_sequence_tokens <= 1 << 20:
            long = Sequence.of(np.ones(can.max_sequence_tokens, np.uint32), [1])
            assert isinstance(refused(subject, long, Want(sampled=True)), TooLarge)
        if not can.deterministic:
            assert refused(subject, PLAIN, Want(sampled=True, deterministic=True)).field == "want.deterministic"

    def test_a_tail_of_a_list_that_is_not_there_is_refused(self, subject: Subject) -> None:
        if subject.info.capabilities.tail:
            for tail in (TailOf.TOPK, TailOf.CANDIDATES):
                assert refused(subject, PLAIN, Want(sampled=True, tail=tail)).field == "want.tail"

    # ------------------------------------------------------------ receipts, grades, versions

    def test_the_receipt_says_what_produced_the_rows(self, subject: Subject) -> None:
        info, receipt = subject.info, scored(subject, PLAIN, Want(sampled=True, temperature=0.5)).receipt
        assert receipt.model == info.model
        assert (receipt.tokenizer_sha256, receipt.template_sha256) == (info.tokenizer_sha256, info.template_sha256)
        assert (receipt.engine, receipt.engine_version, receipt.dtype) == (info.engine, info.engine_version, info.dtype)
        assert (receipt.temperature, receipt.numerics_version) == (0.5, info.numerics_version)
        assert receipt.tokens_computed + receipt.tokens_reused >= len(PLAIN.ids) - 1  # nothing is read off the last token

    def test_every_declared_grade_stays_within_its_bound(self, subject: Subject) -> None:
        want = Want(topk=min(8, subject.info.capabilities.max_topk))
        exact = scored(subject, PLAIN, want)
        for grade in subject.info.capabilities.grades:
            outcome = scored(subject, PLAIN, replace(want, grade=grade))
            bound = outcome.receipt.error_bound_nats + subject.noise_nats
            np.testing.assert_allclose(outcome.rows.topk.logprobs, exact.rows.topk.logprobs, rtol=0, atol=bound + 1e-7)

    def test_versions_live_side_by_side_until_dropped(self, subject: Subject) -> None:
        first = subject.info
        if subject.new_version is None:
            assert not first.capabilities.several_versions
            return
        version, folder = subject.new_version
        item = ScoreItem(PLAIN, Want(sampled=True))
        [before] = subject.face.score([item])
        subject.face.load_version(version, folder)
        try:
            assert [info.model for info in subject.face.describe()] == [version, first.model]
            [newest], [pinned] = subject.face.score([item]), subject.face.score([item], first.model)
            assert newest.receipt.model == version
            assert not np.array_equal(newest.rows.sampled, pinned.rows.sampled)
            assert_same(pinned.rows, before.rows, subject.noise_nats)
        finally:
            subject.face.drop_version(version)
        with pytest.raises(VersionGone):
            subject.face.score([item], version)
        with pytest.raises(Conflict):
            subject.face.drop_version(first.model)

    # ------------------------------------------------------------ helpers

    def everything(self, subject: Subject) -> Want:
        """All that the engine serves at once, but candidates, which depend on the rows."""
        can = subject.info.capabilities
        topk = min(4, can.max_topk)
        return Want(
            sampled=can.sampled,
            topk=topk,
            entropy=can.entropy,
            tail=TailOf.UNION if can.tail else TailOf.NONE,
            samples=min(2, can.max_samples),
            sample_seed=7,
        )

    def cut(self, rows: Rows, start: int, end: int) -> Rows:
        """Rows start .. end - 1 of a reply that starts at 0."""
        at = slice(start, end)

        def cut_lists(lists):
            return lists and replace(lists, ids=lists.ids[at], logprobs=lists.logprobs[at])

        return replace(
            rows,
            start=start,
            validity=rows.validity[at],
            sampled=None if rows.sampled is None else rows.sampled[at],
            entropy=None if rows.entropy is None else rows.entropy[at],
            tail=None if rows.tail is None else rows.tail[at],
            topk=cut_lists(rows.topk),
            samples=cut_lists(rows.samples),
        )
