"""Our draws inside vLLM's workers: a worker extension takes the place of the model runner's sampling step.

vLLM hands the logits of all sequences that get a token in a step to `_sample`. There each token is drawn by
`preceptor_rollout.sampling`, the code of the hf engine, with the number that belongs to its place in its rollout; both
log-probabilities and the likeliest ids are kept until the engine asks for them. vLLM's own sampler is not used: its seeds do not
count, and it gives either raw or processed log-probabilities.

With tensor parallelism every worker draws the same token from the same logits and the same number.
"""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from vllm.v1.outputs import SamplerOutput

from preceptor.philox import rollout_uniform
from preceptor_rollout.chunks import Stretch
from preceptor_rollout.sampling import likeliest, read_rows
from preceptor_rollout.vllm.draws import DrawRule, Draws, draws_of
from preceptor_serving.vllm.probe import check_method, check_parts

HOOK = "_sample"
HOOK_PARAMETERS = ("logits", "spec_decode_metadata")
RUNNER_PARTS = ("requests", "input_batch", "kv_caches")


@dataclass(slots=True)
class Drawing:
    """What was drawn for one sequence of one turn and not taken yet. What is computed again is drawn again, the same."""

    draws: Draws
    taken: int = 0
    ids: list[int] = field(default_factory=list)
    policy: list[float] = field(default_factory=list)
    behaviour: list[float] = field(default_factory=list)
    top_ids: list[NDArray[np.int64]] = field(default_factory=list)

    def put(self, position: int, token: int, policy: float, behaviour: float, top_ids: NDArray[np.int64] | None) -> None:
        self.cut(position - self.taken)
        self.ids.append(token)
        self.policy.append(policy)
        self.behaviour.append(behaviour)
        if top_ids is not None:
            self.top_ids.append(top_ids)

    def cut(self, length: int) -> None:
        for column in (self.ids, self.policy, self.behaviour, self.top_ids):
            del column[length:]

    def take(self) -> Stretch:
        """Everything since the last time."""
        stretch = Stretch(
            np.array(self.ids, np.uint32),
            np.array(self.policy, np.float32),
            np.array(self.behaviour, np.float32),
            np.stack(self.top_ids) if self.top_ids else None,
        )
        self.taken += len(self.ids)
        self.cut(0)
        return stretch


class DrawExtension:
    """Mixed into vLLM's worker class: every name here must be one that no worker has."""

    model_runner: Any

    def preceptor_install_draws(self, tokenizer_size: int) -> bool:
        """Takes the place of the sampling step. `ConfigurationError` says what this vLLM lacks."""
        check_method(self.model_runner, HOOK, HOOK_PARAMETERS, "the model runner")
        check_parts(self.model_runner, RUNNER_PARTS, "the model runner")
        self.preceptor_size = tokenizer_size
        self.preceptor_drawings: dict[str, Drawing] = {}

        def sample(logits: Tensor, spec_decode_metadata: Any) -> SamplerOutput:
            return SamplerOutput(sampled_token_ids=self.preceptor_draw(logits)[:, None], logprobs_tensors=None)

        setattr(self.model_runner, HOOK, sample)
        return True

    @torch.inference_mode()
    def preceptor_draw(self, logits_bv: Tensor) -> Tensor:
        """A token for each sequence of the batch, in its order. Those that share a rule are drawn together."""
        requests = [self.model_runner.requests[one] for one in self.model_runner.input_batch.req_ids]
        drawings = [self.preceptor_drawing(request) for request in requests]
        groups: dict[DrawRule, list[int]] = {}
        for index, drawing in enumerate(drawings):
            groups.setdefault(drawing.draws.rule, []).append(index)
        ids_b = torch.zeros(len(requests), dtype=torch.int32, device=logits_bv.device)
        for rule, rows in groups.items():
            positions = np.array([len(requests[row].output_token_ids) for row in rows])
            drawn = _drawn(logits_bv[rows], rule, [drawings[row].draws for row in rows], positions, self.preceptor_size)
            ids_b[rows] = drawn.ids_b.int()
            _keep(drawn, [drawings[row] for row in rows], positions)
        return ids_b

    def preceptor_drawing(self, request: Any) -> Drawing:
        drawing = self.preceptor_drawings.get(request.req_id)
        if drawing is None:
            drawing = self.preceptor_drawings[request.req_id] = Drawing(draws_of(request.sampling_params))
        return drawing

    def preceptor_take(self, request_ids: Sequence[str]) -> list[Stretch] | None:
        """What was drawn for each of these since it was last taken; None on a worker that draws nothing."""
        if any(one not in self.preceptor_drawings for one in request_ids):
            return None
        return [self.preceptor_drawings[one].take() for one in request_ids]

    def preceptor_forget(self, request_ids: Sequence[str]) -> bool:
        """Nobody will ask for these."""
        for one in request_ids:
            self.preceptor_drawings.pop(one, None)
        return True


@dataclass(frozen=True, slots=True)
class Drawn:
    """One token for each sequence, and what it was drawn from."""

    ids_b: Tensor
    policy_b: Tensor
    behaviour_b: Tensor
    top_ids_bk: Tensor | None


def _drawn(logits_bv: Tensor, rule: DrawRule, draws: Sequence[Draws], positions: NDArray[np.int64], size: int) -> Drawn:
    """One token for each row. Where logits are not numbers its policy is NaN, which the engine refuses."""
    prompts, samples = np.array([one.prompt for one in draws]), np.array([one.sample for one in draws])
    places = positions + np.array([one.first_row for one in draws])
    broken_b = ~logits_bv.amax(-1).isfinite()
    logits_bv = logits_bv.float().masked_fill(broken_b[:, None], 0.0)
    uniform_b = rollout_uniform(rule.seed, rule.step, prompts, samples, places)
    reading = read_rows(logits_bv, uniform_b, rule.sampling, size)
    policy_b = reading.policy_bt.gather(1, reading.ids_b[:, None])[:, 0].masked_fill(broken_b, torch.nan)
    top_ids_bk = likeliest(reading.policy_bt, rule.student_topk) if rule.student_topk else None
    return Drawn(reading.ids_b, policy_b, reading.own_b, top_ids_bk)


def _keep(drawn: Drawn, drawings: Sequence[Drawing], positions: NDArray[np.int64]) -> None:
    top = [None] * len(drawings) if drawn.top_ids_bk is None else list(drawn.top_ids_bk.cpu().numpy())
    columns = zip(positions.tolist(), drawn.ids_b.tolist(), drawn.policy_b.tolist(), drawn.behaviour_b.tolist(), top, strict=True)
    for drawing, entry in zip(drawings, columns, strict=True):
        drawing.put(*entry)
