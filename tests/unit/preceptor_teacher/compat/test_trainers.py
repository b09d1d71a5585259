"""Every row of docs/trainers.md over HTTP: the trainer's own request, read where it reads, against the float64 oracle."""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from preceptor_teacher.compat.sampling import NEUTRAL
from tests.unit.preceptor_teacher.compat.house import House, best, close, distribution, house

PAGE = Path(__file__).parents[4] / "docs" / "trainers.md"
SEQUENCES, PROMPTS, K = [[5, 9, 2, 33, 60], [4, 4, 17]], [2, 1], 4
Replay = Callable[[House], Awaitable[None]]


async def trl_server_distillation(teacher: House) -> None:
    """`VLLMClient`: health, the first model, one request for the batch; entries by rank, cut to k, the token by its id."""
    assert (await teacher.http.get("/t/other/health")).status_code == 200
    assert (await teacher.http.get("/t/nobody/health")).status_code == 404
    model = (await teacher.http.get("/t/other/v1/models")).json()["data"][0]["id"]
    asked = {"prompt": SEQUENCES, "max_tokens": 1, "temperature": 0.8, "prompt_logprobs": K}
    choices = (await teacher.answer("/t/other/v1/completions", model=model, **asked))["choices"]
    for choice, ids, start in zip(choices, SEQUENCES, PROMPTS, strict=True):
        for position in range(start, len(choice["prompt_logprobs"])):
            told = choice["prompt_logprobs"][position] or {}
            truth = distribution(ids, position, temperature=0.8, name="other")
            ranked = sorted(told.items(), key=lambda item: item[1]["rank"])[:K]
            assert [int(token) for token, _ in ranked] == best(truth, K)
            assert all(close(entry["logprob"], truth[int(token)]) for token, entry in ranked)
            assert close(told[str(ids[position])]["logprob"], truth[ids[position]])


async def trl_async_distillation(teacher: House) -> None:
    """`_score_with_teacher`: one sequence, every listed token kept, the teacher's favourite first by rank."""
    ids, start = SEQUENCES[0], PROMPTS[0]
    asked = {"model": "other", "prompt": ids, "max_tokens": 1, "temperature": 1.0, "prompt_logprobs": K}
    listed = (await teacher.answer("/v1/completions", **asked))["choices"][0]["prompt_logprobs"]
    for position in range(start, len(listed)):
        truth = distribution(ids, position, name="other")
        ranked = sorted(listed[position].items(), key=lambda item: item[1]["rank"])
        assert int(ranked[0][0]) == best(truth, 1)[0]
        assert {int(token) for token, _ in ranked} == {*best(truth, K), ids[position]}


async def trl_vllm_serve(teacher: House) -> None:
    """The client of `trl vllm-serve`, binary, which is its default."""
    assert (await teacher.http.get("/t/other/health/")).status_code == 200
    asked = {"sequences": SEQUENCES, "prompt_lengths": PROMPTS, "top_logprobs": K, "temperature": 1.0}
    told = await teacher.answer("/t/other/get_sequence_logprobs/", **asked, response_format="binary")
    values = np.frombuffer(base64.b64decode(told["logprobs_b64"]), dtype=np.float32).reshape(told["shape"])
    own = np.frombuffer(base64.b64decode(told["actual_logprobs_b64"]), dtype=np.float32).reshape([*told["shape"][:2], 1])
    for index, (ids, start) in enumerate(zip(SEQUENCES, PROMPTS, strict=True)):
        assert told["completion_lengths"][index] == len(ids) - start
        for row in range(len(ids) - start):
            truth = distribution(ids, start + row, name="other")
            assert all(close(value, truth[token]) for value, token in zip(values[index, row], best(truth, K), strict=True))
            assert close(own[index, row, 0], truth[ids[start + row]])


async def prime_rl(teacher: House) -> None:
    """`prefill_logprobs`: the first entry of each position is taken, whatever its name."""
    ids = SEQUENCES[0]
    sampling = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "prompt_logprobs": 1}
    told = await teacher.answer("/inference/v1/generate", model="other", token_ids=ids, sampling_params=sampling)
    assert told["prompt_logprobs"][0] is None
    for position in range(1, len(ids)):
        first = next(iter(told["prompt_logprobs"][position].values()))
        assert close(first["logprob"], distribution(ids, position, name="other")[ids[position]])


async def slime(teacher: House) -> None:
    """`on_policy_distillation.reward_func`: the rollout's temperature beside scores that it does not change."""
    ids, response = SEQUENCES[0], 3
    sampling = {"temperature": 0.6, "max_new_tokens": 0, "skip_special_tokens": False}
    asked = {"input_ids": ids, "sampling_params": sampling, "return_logprob": True, "logprob_start_len": 0}
    told = await teacher.answer("/t/other/generate", **asked)
    values = [item[0] for item in told["meta_info"]["input_token_logprobs"][1:]][-response:]
    for value, position in zip(values, range(len(ids) - response, len(ids)), strict=True):
        assert close(value, distribution(ids, position, name="other")[ids[position]])


async def skyrl(teacher: House) -> None:
    """`RemoteInferenceClient.sample` with prompt log-probabilities: its own token by id, the list by value."""
    ids = SEQUENCES[0]
    sampling = {"n": 1, "logprobs": 0, "output_kind": 2, "prompt_logprobs": K, "temperature": 1.0, "max_tokens": 1}
    told = await teacher.answer("/inference/v1/generate", model="other", token_ids=ids, sampling_params=sampling)
    assert len(told["choices"][0]["token_ids"]) == len(told["choices"][0]["logprobs"]["content"]) == 1
    for position in range(1, len(ids)):
        truth, listed = distribution(ids, position, name="other"), told["prompt_logprobs"][position]
        assert close(listed[str(ids[position])]["logprob"], truth[ids[position]])
        ranked = sorted(listed.items(), key=lambda item: -item[1]["logprob"])[:K]
        highest = zip(ranked, best(truth, K), strict=True)  # of equal values it may take either
        assert all(close(entry["logprob"], truth[token]) for (_, entry), token in highest)


async def rllm(teacher: House) -> None:
    """`OpenAIEngine.compute_logprobs`: an echo whose first part is the prompt's."""
    ids = SEQUENCES[0]
    asked = {"model": "other", "prompt": ids, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 1.0, "top_p": 1.0}
    told = await teacher.answer("/v1/completions", **asked)
    values = told["choices"][0]["logprobs"]["token_logprobs"][: told["usage"]["prompt_tokens"]]
    assert values[0] is None
    for position in range(1, len(ids)):
        assert close(values[position], distribution(ids, position, name="other")[ids[position]])


REPLAYS: dict[str, Replay] = {
    "TRL server distillation": trl_server_distillation,
    "TRL async distillation": trl_async_distillation,
    "TRL `trl vllm-serve`": trl_vllm_serve,
    "prime-rl": prime_rl,
    "slime": slime,
    "SkyRL": skyrl,
    "rLLM": rllm,
}


@pytest.mark.parametrize("name", REPLAYS)
async def test_the_trainers_own_request_gets_the_oracles_numbers(name: str):
    async with house() as teacher:
        await REPLAYS[name](teacher)


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of the page."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"## {heading}\n")
    table = re.search(r"\|.*?\n\n", below, re.DOTALL)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].strip().splitlines()[2:]]


def test_every_row_over_http_has_its_replay_and_every_replay_its_row():
    assert {row[0] for row in rows_of("Over HTTP")} == set(REPLAYS)


@pytest.mark.parametrize("heading", ["With an integration", "Not over HTTP"])
def test_every_row_without_a_replay_names_a_test_that_is_there(heading: str):
    rows = rows_of(heading)
    assert len(rows) >= 2
    for row in rows:
        named = re.fullmatch(r"`(tests/\S+\.py)::(test_\w+)`", row[-1])
        assert named is not None, row
        text = (PAGE.parents[1] / named[1]).read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {named[2]}\(", text, re.MULTILINE), row[-1]


def test_every_row_names_the_version_that_was_read():
    for heading in ("Over HTTP", "With an integration", "Not over HTTP"):
        for row in rows_of(heading):
            assert re.search(r"\d+\.\d+|\b[0-9a-f]{7}\b", row[1]), row


async def test_every_path_of_the_page_is_a_route():
    async with house() as teacher:
        known = (await teacher.http.get("/openapi.json")).json()["paths"]
    for row in rows_of("Over HTTP"):
        for path in re.findall(r"`(?:GET|POST) (/[^`]*)`", row[2]):
            assert path in known or path == "/health/", path


def test_refusals_on_the_page_are_fields_that_are_refused():
    text = PAGE.read_text(encoding="utf-8")
    told = re.search(r"<!-- neutral -->(.*?)<!-- end of neutral -->", text, re.DOTALL)
    assert told is not None
    assert set(re.findall(r"`(\w+)`", told[1])) == set(NEUTRAL)
