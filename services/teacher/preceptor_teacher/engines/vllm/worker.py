"""Our readout inside vLLM's workers: installed as a worker extension, so that neither logits nor hidden states leave them.

vLLM asks its model runner for prompt log-probabilities after every forward pass, with all hidden states of that pass. The
extension wraps this step: of each request that carries a read it keeps the states that predict wanted rows, and counts what
was computed. When the batch is through, `preceptor_answer` turns the states of all requests into rows with one readout.

`SamplingParams.prompt_logprobs` stays unset, so that vLLM goes on reading its prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from preceptor.errors import Internal
from preceptor.types import Rows
from preceptor_teacher.engines.answer import Planned, answer
from preceptor_teacher.engines.vllm.head import ServedHead, head_of
from preceptor_teacher.engines.vllm.probe import HOOK, check_runner
from preceptor_teacher.engines.vllm.readings import Reading, Spent, read_of

LEAST_LIKELY = -20.0  # far below, a 16-bit logit says nothing
Answer = tuple[Rows | Internal, Spent]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The rows of a request. `lender` names the one that has the state of its first row; empty: it has it itself."""

    request_id: str
    planned: Planned
    lender: str = ""


class ReadoutExtension:
    """Mixed into vLLM's worker class: every name here must be one that no worker has."""

    model_runner: Any

    def preceptor_install(self, tokenizer_size: int) -> tuple[int, bytes] | None:
        """Wraps the runner's step, and takes the head. `ConfigurationError` says what this vLLM lacks."""
        check_runner(self.model_runner)
        self.preceptor_readings: dict[str, Reading] = {}
        original = getattr(self.model_runner, HOOK)

        def step(hidden_states: Tensor, num_scheduled_tokens: dict[str, int]) -> Any:
            self.preceptor_collect(hidden_states, num_scheduled_tokens)
            return original(hidden_states, num_scheduled_tokens)

        setattr(self.model_runner, HOOK, step)
        return self.preceptor_take_head(tokenizer_size)

    def preceptor_take_head(self, tokenizer_size: int) -> tuple[int, bytes] | None:
        """(rows, digest) of the head of the weights that are there now, None on a worker that holds none.

        The digest is that of the hf engine for the same weights.
        """
        self.preceptor_head: ServedHead | None = head_of(self.model_runner.model, tokenizer_size)
        return self.preceptor_head and (self.preceptor_head.head.rows, self.preceptor_head.head_sha256)

    def preceptor_collect(self, states: Tensor, scheduled: Mapping[str, int]) -> None:
        """Keeps what the requests of one forward pass want of its states."""
        runner = self.model_runner
        for request_id, count in scheduled.items():
            request = runner.requests[request_id]
            read = read_of(request.sampling_params)
            if read is None:
                continue
            reading = self.preceptor_readings.get(request_id)
            if reading is None or reading.read != read:
                reading = self.preceptor_readings[request_id] = Reading(read)
            at = int(runner.query_start_loc.np[runner.input_batch.req_id_to_index[request_id]])
            reading.add(int(request.num_computed_tokens), states[at : at + count])

    def preceptor_answer(self, wanted: Sequence[Wanted]) -> list[Answer] | None:
        """Rows of each request, in order, from the states kept for it, which are forgotten by this. None without a head."""
        readings = [self.preceptor_readings.get(one.request_id) for one in wanted]
        for reading, one in zip(readings, wanted, strict=True):
            lender = self.preceptor_readings.get(one.lender)
            if reading is not None and lender is not None:
                reading.borrow(lender)
        self.preceptor_readings.clear()
        if self.preceptor_head is None:
            return None
        states = [self.preceptor_states(reading, one.planned) for reading, one in zip(readings, wanted, strict=True)]
        whole = [(one.planned, found) for found, one in zip(states, wanted, strict=True) if found is not None]
        rows = iter(answer(self.preceptor_head, [planned for planned, _ in whole], [found for _, found in whole]))
        answers = [_short(reading) if found is None else next(rows) for found, reading in zip(states, readings, strict=True)]
        spent = [Spent(0, 0) if reading is None else reading.spent for reading in readings]
        return list(zip(answers, spent, strict=True))

    @torch.inference_mode()
    def preceptor_noise(self, request_id: str) -> float | None:
        """Largest difference in nats between our log-probabilities and vLLM's own, over the states kept for a request.

        NaN where the logits are not numbers.
        """
        reading = self.preceptor_readings.pop(request_id)
        if self.preceptor_head is None or reading.states is None:
            return None
        ours = self.preceptor_head.head.logits(reading.states).log_softmax(-1)
        theirs = self.model_runner.model.compute_logits(reading.states).float().log_softmax(-1)
        likely = theirs > LEAST_LIKELY
        apart = (theirs - ours)[likely].abs()
        return apart.max().item() if len(apart) else math.nan

    def preceptor_states(self, reading: Reading | None, planned: Planned) -> Tensor | None:
        """[rows, h]; None where some are missing."""
        if not len(planned.plan):
            assert self.preceptor_head is not None
            weight = self.preceptor_head.head.weight_vh
            return weight.new_empty(0, weight.shape[1])
        if reading is None or reading.missing or reading.read.first > planned.first_state:
            return None
        return reading.at(planned.plan.prefix_tokens - 1)


def _short(reading: Reading | None) -> Internal:
    """Rows are counted and never filled: states that never came are an error of the item."""
    missing = "any" if reading is None else f"{max(1, reading.missing)}"
    return Internal(f"vLLM did not compute {missing} of the hidden states that predict the wanted rows", field="sequence")
