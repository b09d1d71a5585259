"""TRL's DistillationTrainer (1.16) with a teacher of ours in place of its local one.

    trainer = RemoteDistillationTrainer(
        model="student", args=DistillationConfig(beta=1.0, ...), train_dataset=prompts,
        teacher=RemoteTeacher(TeacherClient("teacher:50051"), "tutor", width=64),
    )

The student's `width` most likely ids of each row go to the teacher, which answers with their log-probabilities and the mass
outside; the loss is TRL's divergence on these. As wide as the vocabulary it is TRL's own loss with a local teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preceptor.client import TeacherClient
from preceptor.errors import InvalidArgument
from preceptor.extras import require
from preceptor.integrations.supports import divergence, student_support, teacher_masses
from preceptor.types import Sequence as Tokens

torch: Any = require("torch", extra="trl")
Tensor = Any  # torch's: this package has no torch, its callers have
DistillationTrainer: Any = require("trl", extra="trl").DistillationTrainer

ABOUT_IMAGES = ("pixel_values", "image_grid_thw")


@dataclass(frozen=True, slots=True)
class RemoteTeacher:
    """Where the teacher is, its name there, and how many ids of each row it is asked about."""

    client: TeacherClient
    name: str
    width: int = 64


class RemoteDistillationTrainer(DistillationTrainer):
    """Takes every argument of its base but `teacher_model`."""

    _tag_names = ["trl", "distillation", "preceptor"]  # noqa: RUF012 - the base's own class attribute
    _name = "Remote Distillation"

    def __init__(self, *args: Any, teacher: RemoteTeacher, **settings: Any) -> None:
        super().__init__(*args, teacher_model=None, **settings)  # pyright: ignore[reportUnknownMemberType]
        self.remote = teacher
        self.usable_ids = teacher.client.describe(teacher.name)[0].tokenizer_size

    def _compute_loss(
        self, unwrapped_student: Any, inputs: Mapping[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The base's contract: loss, sum of the student's entropies, and how many tokens they are of."""
        if any(name in inputs for name in ABOUT_IMAGES):
            raise InvalidArgument("this teacher reads token ids alone", field="pixel_values", value="given", limit="absent")
        completion_BC = inputs["completion_mask"].bool()
        logits_NV = self._student_logits(unwrapped_student, inputs)[completion_BC] / self.temperature
        support = student_support(logits_NV, self.remote.width, min(self.usable_ids, logits_NV.shape[-1]))
        teacher_NM = teacher_masses(self.remote.client, self.remote.name, sequences(inputs), support, self.temperature)
        trained_N = inputs["tool_mask"].bool()[completion_BC] if "tool_mask" in inputs else torch.ones_like(teacher_NM[:, 0])
        weights_N = trained_N.to(logits_NV.dtype)
        loss = (divergence(support.student_NM, teacher_NM, self.beta) * weights_N).sum()
        items = weights_N.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        with torch.no_grad():
            logprobs_NV = logits_NV.float().log_softmax(-1)
            entropy = -(logprobs_NV.exp() * logprobs_NV).sum(-1)
        return loss / items, (entropy * weights_N).sum(), weights_N.sum()

    def _student_logits(self, student: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """The rows that predict the completion's tokens, scaled and capped as the model itself does it."""
        length = inputs["completion_ids"].shape[1]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        return student(input_ids=ids, attention_mask=mask, logits_to_keep=length + 1).logits[:, :-1].float()


def sequences(inputs: Mapping[str, Tensor]) -> list[Tokens]:
    """The batch without its padding: prompts are padded on the left, completions on the right."""
    found: list[Tokens] = []
    for index in range(len(inputs["prompt_ids"])):
        prompt, completion = (
            inputs[f"{part}_ids"][index][inputs[f"{part}_mask"][index].bool()].cpu().numpy() for part in ("prompt", "completion")
        )
        found.append(Tokens.of(prompt, completion))
    return found
