"""A model folder to a student that can generate: weights, digests, ends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from preceptor.types import Capabilities, ModelInfo, ModelRef
from preceptor_rollout.options import GenerationOptions
from preceptor_rollout.vocabulary import Vocabulary
from preceptor_serving.models.folder import folder_sha256
from preceptor_serving.models.load import max_tokens
from preceptor_serving.models.versions import VersionLoader

ENGINE = "hf"
NUMERICS_VERSION = "1"  # raised whenever the same weights may give other bits


@dataclass(frozen=True, slots=True)
class Student:
    """One version of the weights on its device."""

    model: Any
    info: ModelInfo
    eos_ids: tuple[int, ...]
    vocabulary: Vocabulary


def load_student(
    options: GenerationOptions, loader: VersionLoader, folder: Path, vocabulary: Vocabulary, ref: ModelRef | None
) -> Student:
    """The student of a folder. Without a `ref` its manifest digest is computed from the folder's files."""
    model = loader.load(folder, ref)
    vocabulary.check_same(folder)
    vocabulary.check_head(model.config.vocab_size)
    ref = ref or ModelRef(options.name, manifest_sha256=folder_sha256(folder))
    return Student(model, _info(model, ref, options, vocabulary), eos_ids_of(model), vocabulary)


def eos_ids_of(model: Any) -> tuple[int, ...]:
    """The ids that end a response: those of the generation settings, else of the configuration."""
    for source in (getattr(model, "generation_config", None), model.config):
        found = getattr(source, "eos_token_id", None)
        if found is not None:
            return (found,) if isinstance(found, int) else tuple(found)
    return ()


def _info(model: Any, ref: ModelRef, options: GenerationOptions, vocabulary: Vocabulary) -> ModelInfo:
    on_cpu = model.device.type == "cpu"
    longest = max_tokens(model.config, options.max_sequence_tokens)
    return ModelInfo(
        model=ref,
        tokenizer_sha256=vocabulary.tokenizer_sha256,
        template_sha256=vocabulary.template_sha256,
        tokenizer_size=vocabulary.size,
        head_rows=model.config.vocab_size,
        dtype=options.dtype,
        engine=ENGINE,
        engine_version=f"transformers {transformers.__version__}, torch {torch.__version__}",
        numerics_version=NUMERICS_VERSION,
        capabilities=Capabilities(
            max_topk=vocabulary.size,
            deterministic=on_cpu and options.dtype == "f32",
            max_sequence_tokens=longest,
            several_versions=True,
            generate=True,
            own_logprobs=True,
            seeds=True,
        ),
    )
