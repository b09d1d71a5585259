"""What the operator says of a discriminator. No request names a folder or a model.

teachers:
  critic:
    engine: discriminator
    folder: models/small-lm        # what every job's discriminator starts from
    state_folder: critic           # what the jobs have trained
    writer: judge                  # a teacher behind an API, in the same file
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from preceptor_teacher.options import checked


class DiscriminatorOptions(BaseModel):
    """One discriminator; folders lie beside the file they are named in."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: Path
    """A causal language model: safetensors, and a tokenizer with an end token. Every weight is trained, in f32."""

    state_folder: Path
    """Where checkpoints and journals of the jobs are kept; one service at a time."""

    writer: str | None = Field(default=None, min_length=1)
    """The teacher behind an API who writes the teacher's text for an item without a reference; unset: nobody does."""

    device: str = "cpu"
    """Where it runs: cpu, cuda, cuda:1, ..."""

    threads: int = Field(default=1, ge=1, le=1024)
    """Of the CPU, in the process in which it runs."""

    max_sequence_tokens: int | None = Field(default=None, ge=2)
    """Longest prompt and response together; unset: what the model can read."""

    texts_at_once: int = Field(default=16, ge=1, le=1024)
    """Read in one pass; fewer take less memory."""

    jobs_in_memory: int = Field(default=1, ge=1, le=64)
    """Those beyond wait on disk. Each takes 16 bytes a weight, and what its texts need."""

    checkpoint_every_updates: int = Field(default=16, ge=1)
    """What comes after the last checkpoint is learned again when the service starts."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Of each job."""

    timeout_s: float = Field(default=600.0, gt=0, le=24 * 3600)
    """Longest time for one group, an update and a checkpoint included; then the process is started again."""


def read_discriminator_options(name: str, entry: Mapping[str, Any], root: Path) -> DiscriminatorOptions:
    """The options of a discriminator of that name."""
    return checked(DiscriminatorOptions, name, entry, root, ("folder", "state_folder"))
