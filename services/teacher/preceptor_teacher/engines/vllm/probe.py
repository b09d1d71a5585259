"""What this engine needs of vLLM beyond its public interface, looked at before anything hangs on it.

Everything private that is used anywhere in this folder is named here, with the shape that it has to have.
"""

from __future__ import annotations

from typing import Any

from preceptor_serving.vllm.probe import check_method, check_parts, lacking

HOOK = "_get_prompt_logprobs_dict"
HOOK_PARAMETERS = ("hidden_states", "num_scheduled_tokens")
RUNNER_PARTS = ("requests", "input_batch", "query_start_loc", "model", "kv_caches")
LOOK_UP = "get_computed_blocks"
LOOK_UP_PARAMETERS = ("request",)


def check_runner(runner: Any) -> None:
    """The model runner's step that sees all hidden states of a forward pass, and what says whose they are."""
    check_method(runner, HOOK, HOOK_PARAMETERS, "the model runner")
    check_parts(runner, RUNNER_PARTS, "the model runner")


def check_core(core: Any) -> None:
    """The engine core's scheduler, whose prefix look-up has to be kept from skipping wanted rows."""
    manager = getattr(getattr(core, "scheduler", None), "kv_cache_manager", None)
    if manager is None:
        raise lacking("the engine core has no scheduler.kv_cache_manager", type(core).__name__)
    check_method(manager, LOOK_UP, LOOK_UP_PARAMETERS, "the KV cache manager")
