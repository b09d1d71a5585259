"""One job's discriminator: groups asked again, any kill, and files that are not what they were."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from preceptor.errors import ConfigurationError, Conflict, Corrupt, InvalidArgument
from preceptor.limits import check_name
from preceptor_teacher.discriminator import checkpoints
from preceptor_teacher.discriminator.child import owned
from preceptor_teacher.discriminator.groups import Answer, AskedGroup
from preceptor_teacher.discriminator.jobs import JobDiscriminator, Keeping
from preceptor_teacher.discriminator.learning import Trainer
from preceptor_teacher.discriminator.params import DiscriminatorParams

Opened = Callable[[], tuple[JobDiscriminator, Trainer]]
PAIRED = DiscriminatorParams(groups_per_update=2)
GROUPS = [AskedGroup.of(f"{n}.1", f"{n}+1", "", f"so {n + 1}", [f"{n}", f"so {n}", f"{n}"]) for n in range(7)]


@pytest.fixture
def opened(tmp_path: Path, new_trainer: Callable[[], Trainer]) -> Opened:
    """The job of one folder, as a process finds it that has just started."""

    def opening() -> tuple[JobDiscriminator, Trainer]:
        trainer = new_trainer()
        return JobDiscriminator(tmp_path / "job", trainer, PAIRED, Keeping(every_updates=2, keep=2), "base"), trainer

    return opening


def bits(trainer: Trainer) -> dict[str, bytes]:
    found = trainer.weights() | trainer.optimiser_state()
    return {name: one.contiguous().numpy().tobytes() for name, one in found.items()}


def all_graded(job: JobDiscriminator, groups: Sequence[AskedGroup] = GROUPS) -> list[Answer]:
    return [job.grade(one) for one in groups]


def test_scores_are_those_before_the_update_and_the_update_waits_for_its_groups(opened: Opened) -> None:
    job, trainer = opened()
    answers = all_graded(job, GROUPS[:3])
    assert [one.updates for one in answers] == [0, 0, 1]
    assert all(one.teacher == 0.0 and set(one.texts) == {0.0} for one in answers[:2])
    assert answers[2].teacher != answers[2].texts[0]
    assert job.standing.updates == 1
    assert job.standing.last is not None
    assert (job.standing.last.loss, job.standing.last.accuracy, job.standing.last.pairs) == (pytest.approx(0.693147), 0.5, 6)
    assert trainer.score("2+1", ["so 3"]) == [answers[2].teacher]


def test_a_group_asked_again_has_its_old_scores_and_teaches_nothing_more(opened: Opened) -> None:
    job, trainer = opened()
    answers = all_graded(job)
    before = bits(trainer)
    turned = AskedGroup.of("0.1", "0+1", "", "another text of the writer", ["so 0", "0", "0"])
    assert [*all_graded(job), job.grade(turned)] == [*answers, answers[0]]
    assert bits(trainer) == before
    again, its_trainer = opened()
    assert all_graded(again) == answers
    assert bits(its_trainer) == before


def test_a_response_that_is_the_teachers_text_has_its_very_score(opened: Opened) -> None:
    job, _ = opened()
    all_graded(job, GROUPS[:2])
    answer = job.grade(AskedGroup.of("2.2", "9+9", "", "so 18", ["19", "so 18", "so 8", "18"]))
    assert answer.texts[1:3].count(answer.teacher) == 1
    assert len(set(answer.texts)) == 4


@pytest.mark.parametrize("killed_after", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4, 5, 6))])
def test_whoever_starts_again_goes_on_to_the_same_bits(opened: Opened, tmp_path: Path, killed_after: int) -> None:
    job, trainer = opened()
    answers = all_graded(job)
    wanted, standing = bits(trainer), job.standing
    (tmp_path / "job").rename(tmp_path / "whole")
    first, _ = opened()
    assert all_graded(first, GROUPS[:killed_after]) == answers[:killed_after]
    second, its_trainer = opened()  # the first one is gone, with whatever it had only in memory
    assert all_graded(second) == answers
    assert bits(its_trainer) == wanted
    assert second.standing == standing


def test_the_order_in_which_groups_of_an_update_come_changes_nothing(opened: Opened, tmp_path: Path) -> None:
    job, trainer = opened()
    all_graded(job)
    wanted = bits(trainer)
    (tmp_path / "job").rename(tmp_path / "first")
    other, its_trainer = opened()
    all_graded(other, [GROUPS[n] for n in (1, 0, 3, 2, 5, 4, 6)])
    assert bits(its_trainer) == wanted


def test_a_torn_line_was_told_to_nobody(opened: Opened, tmp_path: Path) -> None:
    job, trainer = opened()
    all_graded(job)
    wanted = bits(trainer)
    file = sorted((tmp_path / "job").glob("journal-*"))[-1]
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:40])
    _, its_trainer = opened()
    assert bits(its_trainer) == wanted
    assert file.read_bytes() == whole


def test_another_line_than_its_digest_says_is_refused(opened: Opened, tmp_path: Path) -> None:
    all_graded(opened()[0], GROUPS[:1])
    file = tmp_path / "job" / "journal-0.jsonl"
    file.write_bytes(file.read_bytes().replace(b"so 1", b"so 2"))
    with pytest.raises(Corrupt) as caught:
        opened()
    assert caught.value.field == "journal-0.jsonl"


@pytest.mark.parametrize(
    "name", ["model.safetensors", *(pytest.param(n, marks=pytest.mark.slow) for n in ("optimizer.safetensors", "state.json"))]
)
def test_a_checkpoint_with_other_content_is_refused_and_the_one_before_leads_to_the_same_bits(
    opened: Opened, tmp_path: Path, name: str
) -> None:
    job, trainer = opened()
    all_graded(job)
    wanted = bits(trainer)
    assert checkpoints.steps(tmp_path / "job") == [2]
    file = tmp_path / "job" / "step-2" / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(Corrupt) as caught:
        opened()
    assert caught.value.field == name
    (tmp_path / "job" / "step-2").rename(tmp_path / "bad")
    _, its_trainer = opened()
    assert bits(its_trainer) == wanted


def test_checkpoints_stay_within_their_number_and_a_journal_that_is_missed_is_named(opened: Opened, tmp_path: Path) -> None:
    job, _ = opened()
    more = [AskedGroup.of(f"{n}.2", "p", "", "t", [f"{n}", "x"]) for n in range(12)]
    all_graded(job, more)
    assert checkpoints.steps(tmp_path / "job") == [4, 6]
    assert checkpoints.journals(tmp_path / "job") == [4]
    (tmp_path / "job" / "step-6").rename(tmp_path / "step-6")
    (tmp_path / "job" / "step-4").rename(tmp_path / "step-4")
    with pytest.raises(Corrupt) as caught:
        opened()
    assert caught.value.field == "journal-4.jsonl"


def test_other_parameters_or_another_model_are_refused(
    opened: Opened, tmp_path: Path, new_trainer: Callable[[], Trainer]
) -> None:
    opened()
    for params, base, field in [
        (DiscriminatorParams(groups_per_update=3), "base", "spec.parameters_json"),
        (PAIRED, "other", "folder"),
    ]:
        with pytest.raises(Conflict) as caught:
            JobDiscriminator(tmp_path / "job", new_trainer(), params, Keeping(), base)
        assert caught.value.field == field


def test_a_checkpoint_of_another_model_is_refused(new_trainer: Callable[[], Trainer]) -> None:
    trainer = new_trainer()
    weights = trainer.weights()
    with pytest.raises(Corrupt) as caught:
        trainer.restore({**weights, "more": torch.zeros(1)}, {})
    assert caught.value.value == "more"


@pytest.mark.parametrize("said", ["{", "[]", '{"params": {}}', ""])
def test_a_job_that_does_not_say_how_it_began_is_refused_by_name(said: str, opened: Opened, tmp_path: Path) -> None:
    opened()
    (tmp_path / "job" / "job.json").write_text(said)
    with pytest.raises(Corrupt) as refused:
        opened()
    assert refused.value.field == "job.json"


def test_the_lock_of_a_state_folder_takes_no_tenants_name_and_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    os.close(owned(tmp_path / "state"))
    for name in (path.name for path in (tmp_path / "state").iterdir()):
        with pytest.raises(InvalidArgument):
            check_name(name, "tenant")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as refused:
        owned(tmp_path / "file" / "state")
    assert (refused.value.field, refused.value.value) == ("state_folder", str(tmp_path / "file" / "state"))
