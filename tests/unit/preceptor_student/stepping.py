"""The training engine driven as the learner drives it, fed with rollouts and teacher tables of the reference loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from preceptor import names, wire
from preceptor.recipes import CompiledRecipe, Recipe, compile_recipe, recipe_from
from preceptor.types import Grade, IdLogprobs, RaggedIds, RaggedLogprobs, RolloutId, Rows
from preceptor.types import Sequence as TokenSequence
from preceptor_proto.v1 import student_pb2
from preceptor_student.engine import StudentEngine, create
from preceptor_student.pack import pack
from tests.reference.opd_loop import Rollouts

TINY = Path("examples/tiny")
REVERSE_KL = {
    "on": "rollouts",
    "teacher": "tutor",
    "signal": {"op": "support", "params": {"teacher_topk": 8, "student_topk": 8}},
    "objective": "reverse_kl",
}
K1 = {"on": "rollouts", "teacher": "tutor", "signal": "sampled", "objective": "policy_gradient", "advantage": "k1"}
OPTIMIZER = {"learning_rate": 3e-4, "epsilon": 1e-6, "betas": [0.9, 0.95], "max_grad_norm": 1.0}


def recipe(*terms: dict, optimizer: dict | None = None, **changes) -> CompiledRecipe:
    """A recipe for the bundled pair with these terms."""
    values = {
        "version": 1,
        "name": "test",
        "summary": "a test",
        "data": {"path": "x.jsonl"},
        "sources": {"rollouts": {"max_response_tokens": 40, "samples_per_prompt": 2}},
        "teachers": {"tutor": {"model": "tiny-teacher"}},
        "terms": list(terms or (REVERSE_KL,)),
        "optimizer": optimizer or OPTIMIZER,
        "schedule": {"steps": 3, "prompts_per_step": 4},
    }
    made: Recipe = recipe_from(values | changes)
    return compile_recipe(made)


def engine(root: Path, **changes) -> StudentEngine:
    return create(options(root) | changes)


def options(root: Path) -> dict:
    """An engine's options for the bundled student."""
    return {"base": str(TINY / "student"), "runs_root": str(root), "model_name": "tiny-student", "threads": 1} | {
        "device": "cpu", "keep_checkpoints": 2, "keep_versions": 2, "max_open_runs": 2,
        "teacher_heads": (), "teacher_heads_bytes": 1 << 30,
    }  # fmt: skip


def open_run(student: StudentEngine, compiled: CompiledRecipe, run: str = "r", restore_step: int | None = None):
    request = student_pb2.OpenRunRequest(run=run, config_json=compiled.config_json, restore_step=restore_step)
    return student.open_run(request)


# ---------------------------------------------------------------- items


def items(rollouts: Rollouts, teacher_brv: torch.Tensor, step: int = 1, topk: int = 8) -> list[student_pb2.TrainItem]:
    """One item for each rollout, with everything that the bundled recipes ask of a teacher."""
    return [_item(rollouts, teacher_brv[b].numpy(), b, step, topk) for b in range(len(rollouts.response_BR))]


def _item(rollouts: Rollouts, teacher_rv: np.ndarray, b: int, step: int, topk: int) -> student_pb2.TrainItem:
    valid = rollouts.valid_BR[b]
    response = rollouts.response_BR[b][valid].numpy()
    rows, listed = table_rows(teacher_rv[: len(response)], response, rollouts.top_ids_BRk[b][valid].numpy(), topk)
    message, _ = wire.rows_to_proto(rows, Grade.F32, teacher_rv.shape[1])
    prompt = int(rollouts.prompts_B[b])
    return student_pb2.TrainItem(
        id=wire.rollout_id_to_proto(RolloutId("r", step, prompt, b)),
        sequence=wire.sequence_to_proto(TokenSequence.of(rollouts.prompt_ids_BP[b].numpy(), response)),
        scores=[student_pb2.TeacherScores(source="tutor", rows=message)],
        student_topk=wire.ragged_to_proto(listed),
        source="rollouts",
        group=f"prompt-{prompt}",
        weight=1.0,
        finish_reason="FINISH_REASON_EOS" if bool(valid[-1]) is False else "FINISH_REASON_LENGTH",
    )


def table_rows(teacher_rv: np.ndarray, response: np.ndarray, listed_rc: np.ndarray, topk: int) -> tuple[Rows, RaggedIds]:
    """What a teacher answers to {sampled, topk, log candidates, tail of the union}."""
    order = np.argsort(-teacher_rv, axis=1, kind="stable")[:, :topk]
    listed = RaggedIds.from_rows(listed_rc)
    outside = np.ones(teacher_rv.shape, bool)
    for ids in (order, listed_rc, response[:, None]):
        np.put_along_axis(outside, ids, False, 1)
    tail = torch.from_numpy(np.where(outside, teacher_rv, -np.inf)).logsumexp(1).numpy()
    values = np.take_along_axis(teacher_rv, listed_rc, 1).ravel()
    rows = Rows(
        start=0,
        validity=np.zeros(len(response), np.uint8),
        sampled=teacher_rv[np.arange(len(response)), response],
        tail=tail,
        topk=IdLogprobs(order.astype(np.uint32), np.take_along_axis(teacher_rv, order, 1)),
        candidates=RaggedLogprobs(listed.offsets, values),
    )
    return rows, listed


# ---------------------------------------------------------------- steps


def cut(all_items: Sequence[student_pb2.TrainItem], size: int) -> list[bytes]:
    """Micro-batches of so many items, serialised."""
    parts = [all_items[at : at + size] for at in range(0, len(all_items), size)]
    return [student_pb2.MicroBatch(items=part).SerializeToString() for part in parts]


def header(compiled: CompiledRecipe, batches: Sequence[bytes], epoch: int, step: int, run: str = "r") -> student_pb2.StepHeader:
    return student_pb2.StepHeader(
        run=run,
        epoch=epoch,
        step=step,
        batch_sha256=names.batch_digest(batches),
        micro_batches=len(batches),
        objective=student_pb2.ObjectiveSpec(schema=1, json=compiled.objective.to_json()),
    )


def step_replies(student: StudentEngine, head: student_pb2.StepHeader, batches: Sequence[bytes]) -> Iterator[bytes]:
    return iter(student.step(pack([head.SerializeToString(), *batches])))


def take_step(student: StudentEngine, compiled: CompiledRecipe, batches: Sequence[bytes], epoch: int, step: int, run: str = "r"):
    """The reply to one whole step."""
    *_, last = step_replies(student, header(compiled, batches, epoch, step, run), batches)
    return student_pb2.StepReply.FromString(last)


def weights_of(student: StudentEngine, run: str = "r") -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in student._runs[run].trainer.weights().items()}
