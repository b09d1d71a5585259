"""Generation engines under test: the bundled student, and a random model with a padded, tied head that likes its padding."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from examples.tiny.decode import MODEL_DIRS
from examples.tiny.tokenizer import EOS_ID
from preceptor_serving.engines.protocol import Engine
from tests.contract.generation_suite import GenerationSubject, Rows
from tests.support.models import random_llama, save
from tests.unit.preceptor_rollout.drawing import tiny_prompts

CHUNK_TOKENS = 7
MakeEngine = Callable[[Mapping[str, Any]], Engine]
Prompts = Mapping[int, Sequence[int]]
RANDOM_PROMPTS: Prompts = {0: [1, 4, 5], 3: [1, 40, 9, 200, 17, 6, 6], 4: [1, 9]}


def logits_of(folder: Path) -> Rows:
    """The whole model in float64."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, local_files_only=True)

    def rows(ids: NDArray[np.uint32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            return model(torch.from_numpy(ids.astype("int64"))[None]).logits[0].numpy()

    return rows


def changed(folder: Path, to: Path, change: Callable[[torch.Tensor], Any]) -> str:
    """A copy whose every tensor went through `change`."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    torch.manual_seed(0)
    with torch.no_grad():
        for tensor in model.parameters():
            change(tensor)
    model.save_pretrained(to)
    return str(to)


@contextmanager
def subject_over(
    make: MakeEngine, folder: Path, prompts: Mapping[int, Sequence[int]], root: Path
) -> Generator[GenerationSubject]:
    """The engine over a folder, started; beside it other weights of the same model, and broken ones."""
    engine = make({"name": "tiny", "folder": folder, "dtype": "f32", "log_chunk_tokens": CHUNK_TOKENS})
    following = changed(folder, root / "next", lambda tensor: tensor.add_(torch.randn_like(tensor), alpha=0.02))
    broken = changed(folder, root / "broken", lambda tensor: tensor.fill_(torch.nan))
    theirs, bundled_one = logits_of(Path(following)), folder == MODEL_DIRS["student"]
    yield GenerationSubject(engine, logits_of(folder), prompts, CHUNK_TOKENS, following, theirs, broken, bundled_one)
    engine.close()


def bundled(make: MakeEngine, root: Path):
    return subject_over(make, MODEL_DIRS["student"], tiny_prompts(5), root)


def padded(make: MakeEngine, root: Path):
    """Heads of 32, the least that vLLM's CPU attention takes."""
    shape = {"hidden_size": 128, "initializer_range": 0.1, "tie_word_embeddings": True}
    folder = save(random_llama(1, **shape, eos_token_id=EOS_ID), root / "padded")
    return subject_over(make, folder, RANDOM_PROMPTS, root)
