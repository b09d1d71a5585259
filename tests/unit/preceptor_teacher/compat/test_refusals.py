"""What a dialect can ask and this server cannot give is refused, in that dialect's shape and by its own name for it."""

from __future__ import annotations

import numpy as np
import pytest

from preceptor.errors import Unsupported
from preceptor.types import ModelRef, Receipt, Rows, Validity, Want
from preceptor_teacher.compat.asks import Answer, Ask, Names, _check_whole
from preceptor_teacher.compat.positions import prompt_entries
from tests.unit.preceptor_teacher.compat.house import house

COMPLETION = {"model": "fake", "prompt": [1, 2], "max_tokens": 1, "prompt_logprobs": 1}
GENERATE = {"model": "fake", "token_ids": [1, 2]}
SGLANG = {"input_ids": [1, 2], "return_logprob": True, "logprob_start_len": 0}
TRL = {"sequences": [[1, 2], [3, 4]], "prompt_lengths": [1, 1]}
LONG = {"sampling_params": {"max_new_tokens": 0}}

CASES: dict[str, tuple[str, dict, str]] = {
    "text": ("/v1/completions", {**COMPLETION, "prompt": "hello"}, "prompt"),
    "texts": ("/v1/completions", {**COMPLETION, "prompt": ["hello", "you"]}, "prompt"),
    "no prompt": ("/v1/completions", {**COMPLETION, "prompt": []}, "prompt"),
    "an empty prompt": ("/v1/completions", {**COMPLETION, "prompt": [[1], []]}, "prompt[1]"),
    "an id below zero": ("/v1/completions", {**COMPLETION, "prompt": [[1], [2, -1]]}, "prompt[1][1]"),
    "an id of another tokenizer": ("/v1/completions", {**COMPLETION, "prompt": [[1, 2], [3, 4, 61]]}, "prompt[1][2]"),
    "the first id of another tokenizer": ("/v1/completions", {**COMPLETION, "prompt": [61, 4]}, "prompt[0]"),
    "more than the engine lists": ("/v1/completions", {**COMPLETION, "prompt_logprobs": 62}, "prompt_logprobs"),
    "more than the engine lists, of the next token": ("/v1/completions", {**COMPLETION, "logprobs": 62}, "logprobs"),
    "more than the engine lists, of the next token alone": (
        "/inference/v1/generate",
        {**GENERATE, "sampling_params": {"max_tokens": 1, "logprobs": 62}},
        "sampling_params.logprobs",
    ),
    "more than the engine lists, beside what is not drawn": (
        "/v1/completions",
        {**COMPLETION, "max_tokens": 0, "prompt_logprobs": 62, "logprobs": 63},
        "prompt_logprobs",
    ),
    "the whole vocabulary": ("/v1/completions", {**COMPLETION, "prompt_logprobs": -1}, "prompt_logprobs"),
    "a real completion": ("/v1/completions", {**COMPLETION, "max_tokens": 2}, "max_tokens"),
    "vLLM's default length": ("/v1/completions", {"model": "fake", "prompt": [1, 2]}, "max_tokens"),
    "several samples": ("/v1/completions", {**COMPLETION, "n": 2}, "n"),
    "a flag as a number": ("/v1/completions", {**COMPLETION, "n": True}, "n"),
    "a stream": ("/v1/completions", {**COMPLETION, "stream": True}, "stream"),
    "a nucleus": ("/v1/completions", {**COMPLETION, "top_p": 0.9}, "top_p"),
    "a bias": ("/v1/completions", {**COMPLETION, "logit_bias": {"3": 1}}, "logit_bias"),
    "a prompt that would be cut": ("/v1/completions", {**COMPLETION, "truncate_prompt_tokens": 1}, "truncate_prompt_tokens"),
    "a negative temperature": ("/v1/completions", {**COMPLETION, "temperature": -1}, "temperature"),
    "tokens as text": (
        "/v1/completions",
        {**COMPLETION, "logprobs": 1, "return_tokens_as_token_ids": False},
        "return_tokens_as_token_ids",
    ),
    "nothing": ("/v1/completions", {**COMPLETION, "max_tokens": 0, "prompt_logprobs": None}, "prompt_logprobs"),
    "a misspelt field": ("/v1/completions", {**COMPLETION, "prompt_logprob": 1}, "prompt_logprob"),
    "another teacher": ("/v1/completions", {**COMPLETION, "model": "fakes"}, "model"),
    "no teacher, of two": ("/v1/completions", {**COMPLETION, "model": None}, "model"),
    "two teachers": ("/t/other/v1/completions", COMPLETION, "model"),
    "a teacher in the path that is none": ("/t/third/generate", {**SGLANG, **LONG}, "path"),
    "a real generation": (
        "/inference/v1/generate",
        {**GENERATE, "sampling_params": {"max_tokens": 9}},
        "sampling_params.max_tokens",
    ),
    "a start of ids that are not asked for": (
        "/inference/v1/generate",
        {**GENERATE, "sampling_params": {"max_tokens": 1, "prompt_logprobs": 1, "prompt_logprob_start": 1}},
        "sampling_params.prompt_logprob_start",
    ),
    "text mode": (
        "/inference/v1/generate",
        {**GENERATE, "output_mode": "text", "sampling_params": {"max_tokens": 1}},
        "output_mode",
    ),
    "an empty prompt of several": ("/generate", {**SGLANG, **LONG, "input_ids": [[1], []]}, "input_ids[1]"),
    "an id that is neither one nor padding": (
        "/inference/v1/generate",
        {**GENERATE, "sampling_params": {"max_tokens": 1, "prompt_logprob_token_ids": [[5, -2]]}},
        "sampling_params.prompt_logprob_token_ids[0][1]",
    ),
    "too few rows of ids": (
        "/inference/v1/generate",
        {**GENERATE, "sampling_params": {"max_tokens": 1, "prompt_logprob_token_ids": [[1], [2]]}},
        "sampling_params.prompt_logprob_token_ids",
    ),
    "an id to score that is none": (
        "/inference/v1/generate",
        {**GENERATE, "sampling_params": {"max_tokens": 0, "prompt_logprob_token_ids": [[61]]}},
        "sampling_params.prompt_logprob_token_ids",
    ),
    "a prompt longer than its sequence": (
        "/t/fake/get_sequence_logprobs/",
        {**TRL, "prompt_lengths": [1, 3]},
        "prompt_lengths[1]",
    ),
    "no prompt before a completion": ("/t/fake/get_sequence_logprobs/", {**TRL, "prompt_lengths": [0, 1]}, "prompt_lengths[0]"),
    "too few lengths": ("/t/fake/get_sequence_logprobs/", {**TRL, "prompt_lengths": [1]}, "prompt_lengths"),
    "TRL's temperature zero": ("/t/fake/get_sequence_logprobs/", {**TRL, "temperature": 0}, "temperature"),
    "TRL's width": ("/t/fake/get_sequence_logprobs/", TRL, "top_logprobs"),  # 100 is its default
    "SGLang's default length": ("/t/fake/generate", SGLANG, "sampling_params.max_new_tokens"),
    "a start behind the end": ("/t/fake/generate", {**SGLANG, **LONG, "logprob_start_len": 3}, "logprob_start_len"),
    "no logprobs": ("/t/fake/generate", {**SGLANG, **LONG, "return_logprob": False}, "logprob_start_len"),
    "an image": ("/t/fake/generate", {**SGLANG, **LONG, "image_data": "x"}, "image_data"),
    "an id to score": ("/t/fake/generate", {**SGLANG, **LONG, "token_ids_logprob": [61]}, "token_ids_logprob"),
    "a name of a megabyte": ("/t/fake/generate", {**SGLANG, **LONG, "rid": "r" * (1 << 20)}, "rid"),
    "an id in the input": ("/t/fake/generate", {**SGLANG, **LONG, "input_ids": [1, 99]}, "input_ids[1]"),
}


async def test_each_refusal_names_the_field_in_the_dialects_own_shape():
    async with house() as teacher:
        for what, (path, body, field) in CASES.items():
            told = await teacher.refused(path, **body)
            assert told["field"] == field, (what, told)
            sentence = told["detail"] if "sequence" in path else told["error"]["message"]
            assert field in sentence, (what, "a client of this dialect shows nothing but the sentence")
            if "v1" in path:
                assert (told["error"]["param"], told["error"]["code"]) == (field, told["code"])


async def test_a_refusal_before_the_handler_has_the_dialects_shape_too(tmp_path):
    async with house() as teacher:
        for path, where in (("/v1/completions", "error"), ("/generate", "error"), ("/get_sequence_logprobs/", "detail")):
            reply = await teacher.http.post(path, content=b"{", headers={"Content-Type": "application/json"})
            assert (reply.status_code, where in reply.json()) == (400, True)
        told = (await teacher.http.post("/v1/score", content=b"{", headers={"Content-Type": "application/json"})).json()
        assert "error" not in told


async def test_padding_that_would_be_gigabytes_is_refused_before_it_is_computed():
    sequences = [[1] * 2000, *[[1, 2]] * 500]
    async with house(max_message_bytes=1 << 20, max_batch_items=1024) as teacher:
        body = {"sequences": sequences, "prompt_lengths": [1] * 501, "top_logprobs": 4}
        told = await teacher.refused("/t/fake/get_sequence_logprobs/", **body, response_format="binary")
        assert (told["code"], told["field"]) == ("TOO_LARGE", "sequences")
        assert len((await teacher.answer("/t/fake/get_sequence_logprobs/", **body))["logprobs"]) == 501


async def test_a_table_of_ids_that_would_be_gigabytes_is_refused_before_it_is_made():
    """A field that stands for every row, or pads every row, multiplies what was sent."""
    many = [1] * 60_000
    rows = [[-1] * 60_000, *[[]] * 998]
    sampling = {"max_tokens": 0, "prompt_logprob_token_ids": rows}
    async with house() as teacher:
        for path, body, field in (
            ("/t/fake/generate", {**SGLANG, **LONG, "input_ids": [1] * 1000, "token_ids_logprob": many}, "token_ids_logprob"),
            (
                "/inference/v1/generate",
                {"model": "fake", "token_ids": [1] * 1000, "sampling_params": sampling},
                "sampling_params.prompt_logprob_token_ids",
            ),
        ):
            told = await teacher.refused(path, **body)
            assert (told["code"], told["field"]) == ("TOO_LARGE", field)


async def test_more_prompts_than_any_service_takes_are_refused_while_they_are_read():
    async with house() as teacher:
        for path, body, field in (
            ("/v1/completions", {**COMPLETION, "prompt": [[1, 2]] * 1025}, "prompt"),
            ("/t/fake/generate", {**SGLANG, **LONG, "input_ids": [[1, 2]] * 1025}, "input_ids"),
            ("/t/fake/get_sequence_logprobs/", {"sequences": [[1, 2]] * 1025, "prompt_lengths": [1] * 1025}, "sequences"),
        ):
            assert (await teacher.refused(path, **body))["field"] == field


async def test_a_batch_beyond_the_operators_bound_is_refused_by_the_dialects_name_for_it():
    async with house(max_batch_items=2) as teacher:
        told = await teacher.refused("/v1/completions", **{**COMPLETION, "prompt": [[1, 2]] * 3})
        assert (told["code"], told["field"]) == ("TOO_LARGE", "prompt")


def answer(**columns) -> Answer:
    rows = Rows(0, np.zeros(2, np.uint8), **columns)
    return Answer(Ask([4, 5, 6], 1, Want(sampled=True)), rows, Receipt(ModelRef("m")))


def test_a_missing_value_is_an_error_and_never_a_number():
    """Trainers put 0.0, which is probability one, where they find null."""
    with pytest.raises(Unsupported) as refused:
        _check_whole(answer(sampled=np.array([-1.0, np.nan], np.float32)), 3, Names("prompt"))
    assert refused.value.field == "prompt[3][2]"
    masked = answer(sampled=np.array([-1.0, -1.0], np.float32))
    masked.rows.validity[0] = Validity.MASKED
    with pytest.raises(Unsupported) as refused:
        _check_whole(masked, 0, Names("prompt", single=True))
    assert (refused.value.field, refused.value.value) == ("prompt[1]", "masked")


def test_probability_zero_is_vllms_number_for_it():
    listed = list(prompt_entries(answer(sampled=np.array([-np.inf, -1.0], np.float32)), 0))
    assert [step[0].logprob for step in listed] == [-9999.0, -1.0]
