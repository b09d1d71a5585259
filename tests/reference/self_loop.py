"""Self-distillation in one process: the student's own copies teach it, and read another prompt than it does.

Shapes as in `opd_loop`; the teacher's prompts may differ in length, so every rollout is scored alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor
from transformers import PreTrainedModel as Model

from tests.reference.opd_loop import Objective, Prompts, Rollouts, Settings, descend, generate, score

Renew = Callable[[Model, Model, int], None]  # teacher, student, steps that the student has seen
Reread = Callable[[Rollouts], list[list[int] | None]]  # finished rollouts -> the prompt of each


def frozen(teacher: Model, student: Model, step: int) -> None:
    """Stays as the run began."""


def lagged(every: int) -> Renew:
    """A copy of the student after every so many steps."""

    def renew(teacher: Model, student: Model, step: int) -> None:
        if step % every == 0:
            teacher.load_state_dict(student.state_dict())

    return renew


def mean(decay: float) -> Renew:
    """theta_T <- decay * theta_T + (1 - decay) * theta."""

    @torch.no_grad()
    def renew(teacher: Model, student: Model, step: int) -> None:
        for theirs, own in zip(teacher.parameters(), student.parameters(), strict=True):
            theirs.copy_(decay * theirs + (1 - decay) * own)

    return renew


@torch.no_grad()
def score_views(teacher: Model, rollouts: Rollouts, shown: Sequence[list[int] | None]) -> Tensor:
    """What the teacher says of every response behind its own prompt; of one without, behind the student's."""
    rows = []
    for place, ids in enumerate(shown):
        one = slice(place, place + 1)
        seen = rollouts.prompt_ids_BP[one] if ids is None else torch.tensor([ids])
        alone = Rollouts(
            rollouts.prompts_B[one], seen, rollouts.response_BR[one], rollouts.valid_BR[one], rollouts.top_ids_BRk[one]
        )
        rows.append(score(teacher, alone))
    return torch.cat(rows)


def distil_self(
    student: Model,
    batches: Iterable[Prompts],
    views: dict[int, list[int]],
    objective: Objective,
    renew: Renew,
    settings: Settings,
    skip: int = 0,
    reread: Reread | None = None,
) -> Iterator[dict[str, float]]:
    """Trains the student in place; `skip` rows at the start of each response are left out. `reread`: the teacher's prompts are
    made of the rollouts instead, and a rollout that has none does not count."""
    teacher = deepcopy(student)

    def loss_of(prompts: Prompts, step: int) -> Tensor:
        rollouts = generate(student, prompts, step, settings)
        shown = reread(rollouts) if reread else [views[prompt] for prompt in rollouts.prompts_B.tolist()]
        loss_BR = objective(score(student, rollouts), score_views(teacher, rollouts, shown), rollouts, settings)
        counted = rollouts.valid_BR.clone()
        counted[:, :skip] = False
        counted[[one is None for one in shown]] = False
        return loss_BR[counted].sum() / counted.sum()

    for step, metrics in enumerate(descend(student, batches, loss_of, settings), 1):
        renew(teacher, student, step)
        yield metrics
