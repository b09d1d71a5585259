"""Each dialect's numbers against the float64 oracle, in that dialect's own places."""

from __future__ import annotations

import base64
import io
import math

import numpy as np

from tests.unit.preceptor_teacher.compat.house import best, close, distribution, house

IDS = [5, 9, 2, 33, 60, 9]
SHORT = [7]
K = 3


def check_position(told: dict[str, dict], ids: list[int], position: int, width: int, *, temperature: float = 1.0) -> None:
    """The token itself first, then the most likely others by rank; nothing else."""
    truth = distribution(ids, position, temperature=temperature)
    top, own = best(truth, width), ids[position]
    assert list(told) == [str(one) for one in dict.fromkeys([own, *top])]
    for token, entry in told.items():
        assert close(entry["logprob"], truth[int(token)])
        inside = int(token) in top
        assert entry["rank"] == (top.index(int(token)) + 1 if inside else width + 1 if width else None)


async def test_completions_list_the_prompt_as_vllm_does():
    async with house() as teacher:
        for temperature, width in ((1.0, K), (0.7, 1), (2.0, 0), (0.0, K)):
            told = await teacher.answer(
                "/v1/completions",
                model="fake",
                prompt=[IDS, SHORT],
                max_tokens=1,
                prompt_logprobs=width,
                temperature=temperature,
                return_token_ids=True,
            )
            scale = temperature or 1.0
            for choice, ids in zip(told["choices"], (IDS, SHORT), strict=True):
                assert choice["prompt_logprobs"][0] is None, "nothing predicts the first token"
                assert len(choice["prompt_logprobs"]) == len(ids)
                for position in range(1, len(ids)):
                    check_position(choice["prompt_logprobs"][position], ids, position, width, temperature=scale)
                assert choice["prompt_token_ids"] == ids
                assert choice["token_ids"] == best(distribution(ids, len(ids)), 1)
            assert [one["index"] for one in told["choices"]] == [0, 1]
            assert told["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
            assert [receipt["temperature"] for receipt in told["preceptor"]["receipts"]] == [np.float32(scale)] * 2


async def test_completions_echo_the_prompt_in_openais_four_lists():
    async with house() as teacher:
        for generated in (0, 1):
            told = await teacher.answer(
                "/v1/completions", model="fake", prompt=IDS, echo=True, logprobs=2, max_tokens=generated, temperature=0
            )
            [choice] = told["choices"]
            lists, ids = choice["logprobs"], IDS + best(distribution(IDS, len(IDS)), 1) * generated
            assert lists["tokens"] == [f"token_id:{one}" for one in ids]
            lengths = [len(one) for one in lists["tokens"]]
            assert lists["text_offset"] == [sum(lengths[:at]) for at in range(len(ids))]
            assert lists["token_logprobs"][0] is None
            assert lists["top_logprobs"][0] is None
            for position in range(1, len(ids)):
                truth = distribution(ids, position)
                assert close(lists["token_logprobs"][position], truth[ids[position]])
                expected = {f"token_id:{one}": truth[one] for one in {ids[position], *best(truth, 2)}}
                assert lists["top_logprobs"][position].keys() == expected.keys()
                assert all(close(value, expected[name]) for name, value in lists["top_logprobs"][position].items())


async def test_completions_without_the_prompt_tell_the_most_likely_next_token():
    async with house() as teacher:
        told = await teacher.answer("/v1/completions", model="default", prompt=IDS, max_tokens=1, logprobs=2, temperature=0.7)
        [choice] = told["choices"]
        truth = distribution(IDS, len(IDS), temperature=0.7)
        assert choice["prompt_logprobs"] is None
        assert choice["logprobs"]["tokens"] == [f"token_id:{best(truth, 1)[0]}"]
        assert list(choice["logprobs"]["top_logprobs"][0]) == [f"token_id:{one}" for one in best(truth, 2)]
        assert close(choice["logprobs"]["token_logprobs"][0], truth.max())


async def test_generate_scores_the_callers_own_ids_from_any_row():
    lists = [[4, 2, -1], [60, -1, -1], [9, 0, 1]]
    async with house() as teacher:
        for scored in (None, 2):
            told = await teacher.answer(
                "/inference/v1/generate",
                model="fake",
                token_ids=IDS,
                request_id="mine",
                sampling_params={
                    "max_tokens": 1,
                    "prompt_logprobs": scored,
                    "prompt_logprob_token_ids": lists,
                    "prompt_logprob_start": 2,
                },
            )
            values = np.load(io.BytesIO(base64.b64decode(told["prompt_token_id_logprobs"])), allow_pickle=False)
            assert values.shape == (3, 3)
            for row, tokens in enumerate(lists):
                truth = distribution(IDS, 2 + row + 1)
                for value, token in zip(values[row], tokens, strict=True):
                    assert value == -np.inf if token == -1 else close(value, truth[token])
            assert told["request_id"] == "mine"
            assert told["choices"][0]["token_ids"] == best(distribution(IDS, len(IDS)), 1)
            if scored:
                check_position(told["prompt_logprobs"][4], IDS, 4, scored)
            else:
                assert told["prompt_logprobs"] is None


async def test_generate_tells_the_next_token_in_both_of_vllms_shapes():
    async with house() as teacher:
        told = await teacher.answer(
            "/inference/v1/generate", model="fake", token_ids=IDS, sampling_params={"max_tokens": 1, "logprobs": 2}
        )
        [content] = told["choices"][0]["logprobs"]["content"]
        truth = distribution(IDS, len(IDS))
        assert [(one["token_id"], one["token"], one["rank"]) for one in content["top_logprobs"]] == [
            (token, f"token_id:{token}", rank) for rank, token in enumerate(best(truth, 2), start=1)
        ]
        assert content["token_id"] == best(truth, 1)[0]
        assert close(content["logprob"], truth.max())


async def test_trls_two_formats_agree_with_the_oracle():
    sequences, lengths = [IDS, [3, 4], SHORT], [2, 1, 1]
    asked = {"sequences": sequences, "prompt_lengths": lengths, "top_logprobs": K, "temperature": 0.5}
    async with house() as teacher:
        lists = await teacher.answer("/t/fake/get_sequence_logprobs/", **asked)
        binary = await teacher.answer("/t/fake/get_sequence_logprobs/", **asked, response_format="binary")
        shape = binary["shape"]
        values, own = (
            np.frombuffer(base64.b64decode(binary[name]), "<f4").reshape([*shape[:2], width])
            for name, width in (("logprobs_b64", K), ("actual_logprobs_b64", 1))
        )
        tokens, own_tokens = (
            np.frombuffer(base64.b64decode(binary[name]), "<i4").reshape([*shape[:2], width])
            for name, width in (("token_ids_b64", K), ("actual_token_ids_b64", 1))
        )
        assert (shape, binary["completion_lengths"]) == ([3, 4, K], [4, 1, 0])
        for index, (ids, start) in enumerate(zip(sequences, lengths, strict=True)):
            assert len(lists["logprobs"][index]) == len(ids) - start
            for row, position in enumerate(range(start, len(ids))):
                truth = distribution(ids, position, temperature=0.5)
                assert tokens[index, row].tolist() == best(truth, K)
                assert all(
                    close(value, truth[token]) for value, token in zip(values[index, row], tokens[index, row], strict=True)
                )
                assert own_tokens[index, row].tolist() == [ids[position]]
                assert close(own[index, row, 0], truth[ids[position]])
                named = lists["logprob_token_ids"][index][row]
                assert named == list(dict.fromkeys([*best(truth, K), ids[position]]))
                assert all(close(v, truth[t]) for v, t in zip(lists["logprobs"][index][row], named, strict=True))
            assert np.all(values[index, len(ids) - start :] == -np.inf)
            assert np.all(tokens[index, len(ids) - start :] == 0)


async def test_sglang_lists_triples_from_the_first_asked_position_on():
    async with house() as teacher:
        for start in (0, 2, len(IDS) - 1, len(IDS)):
            told = await teacher.answer(
                "/t/other/generate",
                input_ids=IDS,
                sampling_params={"max_new_tokens": 1, "temperature": 0.3},
                return_logprob=True,
                logprob_start_len=start,
                top_logprobs_num=K,
                token_ids_logprob=[8, 1],
                rid="mine",
            )
            meta = told["meta_info"]
            assert (meta["id"], meta["prompt_tokens"], meta["completion_tokens"]) == ("mine", len(IDS), 1)
            assert [token for _, token, _ in meta["input_token_logprobs"]] == IDS[start:]
            assert [value for value, _, _ in meta["input_token_logprobs"][:1]] == [None][: len(IDS) - start]
            positions = list(range(start + 1, len(IDS)))
            for index, position in enumerate([*positions, len(IDS)]):
                truth = distribution(IDS, position, name="other")  # whatever the temperature: as SGLang
                last = position == len(IDS)
                side, at = ("output", 0) if last else ("input", index + 1)
                if not last:
                    assert close(meta["input_token_logprobs"][at][0], truth[IDS[position]])
                assert [token for _, token, _ in meta[f"{side}_top_logprobs"][at]] == best(truth, K)
                assert [token for _, token, _ in meta[f"{side}_token_ids_logprobs"][at]] == [8, 1]
                for value, token, _ in meta[f"{side}_top_logprobs"][at] + meta[f"{side}_token_ids_logprobs"][at]:
                    assert close(value, truth[token])
            assert meta["input_top_logprobs"][:1] == [None][: len(IDS) - start]
            assert told["output_ids"] == best(distribution(IDS, len(IDS), name="other"), 1)
            assert close(meta["output_token_logprobs"][0][0], distribution(IDS, len(IDS), name="other").max())


async def test_sglang_answers_a_batch_with_a_list():
    async with house() as teacher:
        asked = {"sampling_params": {"max_new_tokens": 0}, "return_logprob": True, "logprob_start_len": 0}
        told = await teacher.answer("/t/fake/generate", input_ids=[IDS, SHORT], **asked)
        assert [len(one["meta_info"]["input_token_logprobs"]) for one in told] == [len(IDS), 1]
        assert all(one["output_ids"] == one["meta_info"]["output_token_logprobs"] == [] for one in told)


async def test_probability_zero_and_long_replies_arrive_whole():
    """A reply of several blocks is streamed; what it holds is what the small ones hold."""
    ids = [int(one) for one in np.random.default_rng(0).integers(0, 61, 4000)]
    async with house() as teacher:
        told = await teacher.answer("/v1/completions", model="fake", prompt=ids, max_tokens=0, prompt_logprobs=20)
        listed = told["choices"][0]["prompt_logprobs"]
        assert len(listed) == len(ids)
        for position in (1, 1999, 3999):
            check_position(listed[position], ids, position, 20)
        assert math.isfinite(listed[1][str(ids[1])]["logprob"])
