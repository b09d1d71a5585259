"""Teachers whose vocabulary is as large as the student's: one with the same tokens, one with two of them the other way round."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from examples.tiny.tokenizer import prompt_ids, text_ids
from preceptor import wire
from preceptor.client.teacher import ScoreItem, ScoreOptions, read_reply, score_request
from preceptor.config.settings import ClientSettings
from preceptor.errors import WrongPair
from preceptor.learner import Learner, RunFolder, RunPlan, training_prompts
from preceptor.learner.callers import TeacherCalls
from preceptor.learner.handshake import shake_hands
from preceptor.learner.inline import in_this_process
from preceptor.learner.ports import Ports
from preceptor.recipes import compile_recipe, load_recipe
from preceptor.types import ModelInfo, Scored, Sequence, Want
from preceptor_proto.v1 import teacher_pb2
from tests.support.models import random_llama, save

ROOT = Path(__file__).parents[2]
STUDENT = ROOT / "examples" / "tiny" / "student"
SIX, NINE = "6", "9"


@pytest.fixture(scope="module")
def model() -> Any:
    return random_llama(11)


@pytest.fixture(scope="module")
def environ(model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One teacher service with the same weights under both tokenizers."""
    folder = tmp_path_factory.mktemp("pairs")
    same, swapped = save(model, folder / "same"), save(model, folder / "swapped")
    file = swapped / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[SIX], vocabulary[NINE] = vocabulary[NINE], vocabulary[SIX]
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    entries = {name: {"engine": "hf", "folder": str(path)} for name, path in (("same", same), ("swapped", swapped))}
    (folder / "teachers.yaml").write_text(json.dumps({"teachers": entries}), encoding="utf-8")
    return {
        "PRECEPTOR_TEACHER_TEACHERS_FILE": str(folder / "teachers.yaml"),
        "PRECEPTOR_ROLLOUT_MODEL": f"tiny={STUDENT}",
        "PRECEPTOR_STUDENT_MODEL": f"tiny={STUDENT}",
    }


def plan(teacher: str) -> RunPlan:
    recipe = load_recipe(
        ROOT / "recipes" / "tiny-reverse-kl.yaml", (f"teachers.tutor.model={teacher}", "schedule.steps=1", "evaluation=null")
    )
    return RunPlan(teacher, "local", compile_recipe(recipe), training_prompts(recipe))


async def described(ports: Ports, teacher: str) -> ModelInfo:
    reply = await ports.teacher.describe(teacher_pb2.DescribeRequest(teacher=teacher), deadline_s=30)
    return wire.model_info_from_proto(reply.teachers[0])


async def score(ports: Ports, teacher: str, items: list[ScoreItem], digest: bytes) -> list[np.ndarray]:
    assert isinstance(ports.teacher, TeacherCalls)
    request = score_request(teacher, items, ScoreOptions(tokenizer_sha256=digest))
    results = read_reply(await ports.teacher.score(request, deadline_s=30), items)
    return [one.rows.sampled for one in results if isinstance(one, Scored) and one.rows.sampled is not None]


def test_a_vocabulary_of_the_same_size_in_another_order_is_refused_and_the_same_tokens_are_scored_row_by_row(
    model: Any, environ: dict[str, str], tmp_path: Path
) -> None:
    asyncio.run(_both_pairs(model, environ, tmp_path))
    assert not list(tmp_path.rglob("*.safetensors")), "nothing was trained"


async def _both_pairs(model: Any, environ: dict[str, str], runs: Path) -> None:
    texts = [("6+9=", "15"), ("96-69=", "27"), ("9+6+9=", "24")]
    items = [ScoreItem(Sequence.of(prompt_ids(asked), [*text_ids(told), 2]), Want(sampled=True)) for asked, told in texts]
    async with in_this_process(ClientSettings(), runs, environ=environ) as ports:
        same, swapped = await described(ports, "same"), await described(ports, "swapped")
        assert (same.tokenizer_size, same.head_rows, same.template_sha256) == (
            swapped.tokenizer_size,
            swapped.head_rows,
            swapped.template_sha256,
        )
        agreed = await shake_hands(ports, plan("same"), connect_s=30)
        for item, sampled in zip(items, await score(ports, "same", items, agreed.tokenizer_sha256), strict=True):
            assert sampled == pytest.approx(_exact(model, item.sequence), abs=1e-4)

        with pytest.raises(WrongPair, match="swapped and student tiny do not share a tokenizer") as refused:
            await Learner(plan("swapped"), ports, RunFolder.of(runs, "swapped")).run()
        assert refused.value.limit == agreed.tokenizer_sha256.hex()
        with pytest.raises(WrongPair) as refused:
            await score(ports, "swapped", items, agreed.tokenizer_sha256)
        assert (refused.value.field, refused.value.limit) == ("tokenizer_sha256", swapped.tokenizer_sha256.hex())


def _exact(model: Any, sequence: Sequence) -> np.ndarray:
    """Each row by itself: the log-probability of its own token behind the tokens before it."""
    rows: list[float] = []
    for target in sequence.targets:
        with torch.inference_mode():
            logits = model(torch.from_numpy(sequence.ids[:target].astype("int64"))[None]).logits[0, -1]
        rows.append(float(logits.double().log_softmax(-1)[int(sequence.ids[target])]))
    return np.array(rows)
