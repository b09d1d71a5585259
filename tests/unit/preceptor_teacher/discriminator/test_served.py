"""The grader, its configuration, and the process behind it: what a caller sees, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from preceptor.client import AsyncTeacherClient, GradeOptions
from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError, Conflict, EngineFailed, InvalidArgument, Unsupported
from preceptor.types import GradeItem, Validity
from preceptor_serving.run import running
from preceptor_teacher.api.messages import ChatReply, Message
from preceptor_teacher.catalog import read_teachers
from preceptor_teacher.discriminator.groups import Answer, AskedGroup
from preceptor_teacher.discriminator.params import DiscriminatorParams
from preceptor_teacher.discriminator.served import Discriminator
from preceptor_teacher.graders.discriminator import ByDiscriminator
from preceptor_teacher.service import TeacherService

GROUP = [GradeItem("1+1", text, group="0.7") for text in ("two", "3", "two")]


@dataclass
class ByLength:
    """Scores a text by its length; remembers what it was asked."""

    updates: int = 0
    asked: list[AskedGroup] = field(default_factory=list[AskedGroup])

    async def __call__(self, group: AskedGroup, params: DiscriminatorParams) -> Answer:
        self.asked.append(group)
        return Answer(float(len(group.teacher)), tuple(float(len(text)) for text in group.texts), self.updates)


@dataclass
class Writes:
    """A writer with one answer."""

    reply: ChatReply
    asked: list[str] = field(default_factory=list[str])

    async def __call__(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> ChatReply:
        assert schema is None
        self.asked += [message["content"] for message in messages]
        return self.reply


def reply(text: str, finish_reason: str = "stop", *, refused: bool = False) -> ChatReply:
    return ChatReply(text, finish_reason, refused=refused, prompt_tokens=3, completion_tokens=2, calls=1)


async def test_a_response_has_the_score_of_its_text_and_the_writer_is_paid_once() -> None:
    scorer, writer = ByLength(), Writes(reply("it is two"))
    verdicts = await ByDiscriminator(DiscriminatorParams(), scorer, writer).grade_group(GROUP)
    assert [one.reward for one in verdicts] == [3.0, 1.0, 3.0]
    assert [(one.calls, one.tokens) for one in verdicts] == [(1, 5), (0, 0), (0, 0)]
    assert [(one.name, one.score) for one in verdicts[1].criteria] == [("response", 1.0), ("teacher", 9.0)]
    assert writer.asked == ["1+1"]
    assert [(one.teacher, one.texts, one.counts) for one in scorer.asked] == [("it is two", ("3", "two"), (1, 2))]


async def test_a_reference_is_the_teachers_text_and_nobody_is_asked() -> None:
    scorer, writer = ByLength(), Writes(reply("it is two"))
    items = [GradeItem(one.prompt, one.response, "2.", one.group) for one in GROUP]
    await ByDiscriminator(DiscriminatorParams(), scorer, writer).grade_group(items)
    assert (writer.asked, scorer.asked[0].teacher) == ([], "2.")


async def test_while_it_warms_up_every_reward_is_zero_and_its_scores_are_told() -> None:
    params = DiscriminatorParams(warmup_updates=3)
    cold = await ByDiscriminator(params, ByLength(2), Writes(reply("two"))).grade_group(GROUP)
    warm = await ByDiscriminator(params, ByLength(3), Writes(reply("two"))).grade_group(GROUP)
    assert [one.reward for one in cold] == [0.0, 0.0, 0.0]
    assert [one.criteria for one in cold] == [one.criteria for one in warm]
    assert [one.reward for one in warm] == [3.0, 1.0, 3.0]


@pytest.mark.parametrize("said", [reply("no", refused=True), reply("half a", "length"), reply(" \n")])
async def test_without_a_text_of_the_teacher_nothing_is_scored_or_learned(said: ChatReply) -> None:
    scorer = ByLength()
    verdicts = await ByDiscriminator(DiscriminatorParams(), scorer, Writes(said)).grade_group(GROUP)
    assert [(one.validity, one.reward) for one in verdicts] == [(Validity.MISSING_PROVIDER, None)] * 3
    assert [one.calls for one in verdicts] == [1, 0, 0]
    assert scorer.asked == []


@pytest.mark.parametrize(("items", "where"), [(GROUP, "reference"), (GROUP[:1], "group")])
async def test_a_group_of_one_and_one_without_a_text_of_the_teacher_are_refused_by_name(
    items: list[GradeItem], where: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await ByDiscriminator(DiscriminatorParams(), ByLength(), None).grade_group(items)
    assert caught.value.field == where
    assert "discriminator" in str(caught.value)


def file_of(place: Path, **entry: object) -> Path:
    file = place / "teachers.yaml"
    critic = {"engine": "discriminator", "folder": "model", "state_folder": "critic", **entry}
    file.write_text(yaml.safe_dump({"teachers": {"critic": critic, "rules": {"engine": "check"}}}))
    return file


@pytest.mark.parametrize(
    ("entry", "where"), [({"writer": "rules"}, "writer"), ({"temperature": 1}, "temperature"), ({"folder": None}, "folder")]
)
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path, entry: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_teachers(file_of(tmp_path, **entry))
    assert caught.value.field == f"teachers.critic.{where}"


async def graded(client: AsyncTeacherClient, items: list[GradeItem], options: GradeOptions) -> list[Any]:
    """Asked again where the process was found dead."""
    verdicts: list[Any] = await client.grade("critic", items, options)
    if all(isinstance(one, EngineFailed) and one.retryable for one in verdicts):
        verdicts = list(await client.grade("critic", items, options))
    return verdicts


@pytest.mark.slow
async def test_whoever_kills_its_process_changes_no_score(tmp_path: Path, base: Path) -> None:
    """A service that is asked about four groups; and one whose process is killed after each of them, asked twice."""
    groups = [
        [GradeItem(f"{n}+1", text, f"so {n + 1}", f"{n}.0") for text in (f"{n}", "x", "so what", f"so {n + 1}")] for n in range(4)
    ]
    told: list[list[float | None]] = []
    for place, kills in enumerate((False, True)):
        folder = tmp_path / str(place)
        folder.mkdir()
        settings = TeacherSettings(
            grpc_port=0, rest_port=0, teachers_file=file_of(folder, folder=str(base), checkpoint_every_updates=3)
        )
        service, scores = TeacherService(), list[float | None]()
        async with running(service, settings) as house, AsyncTeacherClient(f"127.0.0.1:{house.grpc_port}") as client:
            for items in groups:
                options = GradeOptions("discriminator", parameters={"learning_rate": 0.01})
                verdicts = await graded(client, items, options)
                scores += [one.reward for one in verdicts]
                if kills:
                    critic = service.find_judge("critic")
                    assert isinstance(critic, Discriminator)
                    assert critic.child.pid is not None
                    os.kill(critic.child.pid, signal.SIGKILL)
                    assert [one.reward for one in await graded(client, items, options)] == [one.reward for one in verdicts]
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.rest_port}", trust_env=False) as http:
                metrics = (await http.get("/metrics")).text
            assert 'preceptor_discriminator_updates_total{job="default",teacher="critic",tenant="local"} 4.0' in metrics
            [info] = await client.describe("critic")
            assert (info.engine, info.capabilities.graders) == ("discriminator", ("discriminator",))
            others: list[Any] = await client.grade("critic", groups[0], GradeOptions("discriminator"))
            assert all(isinstance(one, Conflict) and one.field.endswith("spec.parameters_json") for one in others)
            with pytest.raises(Unsupported):
                await client.grade("critic", groups[0], GradeOptions("exact"))
        told.append(scores)
    assert told[0] == told[1]
    assert len(set(told[0])) > 4
