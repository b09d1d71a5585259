"""Mathematics is compared in a process of its own, which a text may stop or fill and which starts again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from preceptor.errors import EngineFailed
from preceptor_teacher.mathematics import Answer, MathProcess

WITHIN_S = 60.0
ENDLESS = "9**9**9**9"  # a power that no machine can write down


@pytest.fixture
async def process() -> AsyncGenerator[MathProcess]:
    made = MathProcess()
    yield made
    await made.close()


def pid_of(process: MathProcess) -> int:
    assert process.pid is not None
    return process.pid


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_the_same_mathematics_in_other_words(process: MathProcess) -> None:
    same = [
        ("1/2", r"so it is \boxed{\frac{2}{4}}"),
        ("1/2", "The answer is 0.5"),
        ("1686", "859+827=1686"),
        ("1+x", r"\boxed{x+1}"),
        ("(1,2)", r"\boxed{(1,2)}"),
    ]
    other = [("1/2", r"\boxed{\frac{2}{3}}"), ("1686", "1687"), ("7", "no number at all"), ("7", "")]
    for reference, response in same:
        assert (await process.compare(reference, response, WITHIN_S)).same is True, response
    for reference, response in other:
        assert (await process.compare(reference, response, WITHIN_S)).same is False, response


async def test_a_response_without_an_end_is_not_right_and_costs_only_its_process(process: MathProcess) -> None:
    await process.compare("7", "7", WITHIN_S)
    first = pid_of(process)
    assert await process.compare("7", ENDLESS, 0.5) == Answer(same=False, in_time=False)
    assert not is_alive(first)
    assert (await process.compare("7", "7", WITHIN_S)).same is True


async def test_an_abandoned_question_leaves_no_answer_for_the_next(process: MathProcess) -> None:
    await process.compare("7", "7", WITHIN_S)
    asked = asyncio.create_task(process.compare("7", ENDLESS, WITHIN_S))
    await asyncio.sleep(0.2)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await process.compare("7", "8", WITHIN_S)).same is False
    assert (await process.compare("7", "7", WITHIN_S)).same is True


async def test_a_question_that_is_abandoned_before_the_process_is_ready_leaves_nothing_to_read(process: MathProcess) -> None:
    asked = asyncio.create_task(process.compare("7", "7", WITHIN_S))
    await asyncio.sleep(0.05)  # it takes longer to import what it reads with
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await process.compare("7", "7", WITHIN_S)).same is True


async def test_a_reference_that_nothing_can_be_read_from(process: MathProcess) -> None:
    assert (await process.compare("\\", "7", WITHIN_S)).same is None


async def test_questions_at_once_get_their_own_answers(process: MathProcess) -> None:
    answers = await asyncio.gather(*(process.compare(str(n), str(n // 2 * 2), WITHIN_S) for n in range(10)))
    assert [answer.same for answer in answers] == [n % 2 == 0 for n in range(10)]


async def test_a_process_that_is_killed_is_an_error_that_may_be_asked_again(process: MathProcess) -> None:
    await process.compare("7", "7", WITHIN_S)
    asked = asyncio.create_task(process.compare("7", ENDLESS, WITHIN_S))
    await asyncio.sleep(0.2)
    os.kill(pid_of(process), signal.SIGKILL)
    with pytest.raises(EngineFailed) as caught:
        await asked
    assert caught.value.retryable
    assert (await process.compare("7", "7", WITHIN_S)).same is True


async def test_it_sees_nothing_of_ours(process: MathProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECEPTOR_CANARY", "secret")
    await process.compare("7", "7", WITHIN_S)
    assert environment_of(pid_of(process)) == b""
