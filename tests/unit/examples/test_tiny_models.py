"""The bundled pair as committed: one tokenizer, two widths, small files, and the gap that a distillation has to close."""

from __future__ import annotations

import json
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoTokenizer

from examples.tiny import task, train_pair
from examples.tiny.decode import MAX_RESPONSE_TOKENS, MODEL_DIRS, accuracy, greedy, load_model, text_of
from examples.tiny.tokenizer import EOS_ID, FIRST_BYTE_ID, SPECIALS, VOCAB_SIZE, build, prompt_ids, text_ids

NAMES = list(MODEL_DIRS)
LIMIT_BYTES = 8 * 1000 * 1000


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request):
    return AutoTokenizer.from_pretrained(MODEL_DIRS[request.param], local_files_only=True)


def test_both_models_have_one_fast_tokenizer_and_it_is_the_one_that_is_built(tokenizer):
    assert tokenizer.is_fast
    assert tokenizer.get_vocab() == build().get_vocab()
    assert len(tokenizer) == VOCAB_SIZE
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == SPECIALS[:3]


def test_every_byte_and_any_text_survive_the_round_trip(tokenizer):
    alphabet = st.text().filter(lambda text: not any(special in text for special in SPECIALS))

    @given(alphabet)
    def round_trip(text):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert ids == text_ids(text)
        assert tokenizer.decode(ids) == text == text_of(ids)

    round_trip()


def test_the_chat_template_opens_a_reply_as_training_did(tokenizer):
    message = [{"role": "user", "content": "478+356"}]
    ids = tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    assert ids == prompt_ids("478+356")
    answered = [*message, {"role": "assistant", "content": "834"}]
    assert tokenizer.apply_chat_template(answered, return_dict=False) == [*ids, *text_ids("834"), EOS_ID]


def test_what_a_tool_says_stands_within_the_reply(tokenizer):
    told = [{"role": "user", "content": "478+356"}, {"role": "assistant", "content": "8+6+0="}, {"role": "tool", "content": "1"}]
    ids = [*prompt_ids("478+356"), *text_ids("8+6+0=1")]
    assert tokenizer.apply_chat_template(told, add_generation_prompt=True, return_dict=False) == ids
    gone_on = [*told, {"role": "assistant", "content": "4 834"}, {"role": "user", "content": "1+2"}]
    whole = [*ids, *text_ids("4 834"), EOS_ID, *prompt_ids("1+2")[1:]]
    assert tokenizer.apply_chat_template(gone_on, add_generation_prompt=True, return_dict=False) == whole


def test_the_pair_is_small_and_of_two_widths():
    assert sum(path.stat().st_size for folder in MODEL_DIRS.values() for path in folder.iterdir()) < LIMIT_BYTES
    configs = {name: json.loads((MODEL_DIRS[name] / "config.json").read_text()) for name in NAMES}
    assert configs["teacher"]["hidden_size"] != configs["student"]["hidden_size"]
    assert {config["vocab_size"] for config in configs.values()} == {VOCAB_SIZE}


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_holds_the_values_of_its_file(name):
    state = load_model(name).state_dict()
    with safe_open(MODEL_DIRS[name] / "model.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(key), state[key]) for key in file.keys())  # noqa: SIM118
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_the_teacher_knows_the_task_and_the_student_only_its_easy_part():
    heldout = task.load("heldout")[:256]
    teacher, student = load_model("teacher"), load_model("student")
    assert accuracy(teacher, heldout) >= 0.95
    assert accuracy(student, heldout) <= 0.40
    assert accuracy(student, list(islice(task.problems("heldout", 9, level="easy"), 128))) >= 0.95


def test_the_teacher_never_runs_out_of_room():
    answers = greedy(load_model("teacher"), task.load("distil")[:256])
    assert all(ids[-1] == EOS_ID and len(ids) <= MAX_RESPONSE_TOKENS - 4 for ids in answers)


def test_the_student_was_shown_easy_sums_of_its_split_alone():
    for ids, _ in islice(train_pair.student_examples(), 500):
        prompt = text_of(ids[: ids.index(4)])
        problem = task.parse(prompt)
        assert (problem.split, problem.level) == ("train", "easy")


def test_a_fault_is_context_and_what_follows_it_is_consistent():
    seen = 0
    for ids, targets in islice(train_pair.teacher_examples(), 2000):
        start = len(prompt_ids("000+000"))
        problem, response = task.parse(text_of(ids[:start])), text_of(ids[start:])
        ignored = [i for i, target in enumerate(targets) if target == train_pair.IGNORED][start:]
        assert all(target in (train_pair.IGNORED, i) for i, target in zip(ids, targets, strict=True))
        if response == problem.worked:
            continue
        seen += 1
        assert len(ignored) == 1
        *steps, answer = response.split(" ")
        sums = [step.split("=")[1] for step in steps]
        carry = "" if sums[-1][0] == "0" else sums[-1][0]
        assert answer == carry + "".join(total[1] for total in reversed(sums))
    assert seen > 100


def test_bytes_start_after_the_specials():
    assert text_ids("\x00") == [FIRST_BYTE_ID]
    assert build().convert_tokens_to_ids(list(SPECIALS)) == list(range(FIRST_BYTE_ID))
