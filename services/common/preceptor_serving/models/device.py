"""Where models may run, and how a device says that it is full."""

from __future__ import annotations

import torch

from preceptor.errors import ConfigurationError

# Without an accelerator torch tells it by text only, and so do the libraries that it calls.
SAID_BY_LIBRARIES = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
LIMIT = "cpu, cuda, cuda:1, ..."
KINDS = {"cpu", "cuda"}


def usable_device(name: str) -> torch.device:
    """The device of that name; `ConfigurationError` where there is none."""
    device = _parsed(name)
    if device is None or device.type not in KINDS:
        raise ConfigurationError("models do not run on such a device", field="device", value=name, limit=LIMIT)
    if device.type != "cuda":
        return device
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= seen:
        raise ConfigurationError(
            f"this process sees {seen} CUDA devices", field="device", value=name, limit=LIMIT if seen else "cpu",
            hint="look at CUDA_VISIBLE_DEVICES; `python -m torch.utils.collect_env` tells driver and build of torch",
        )  # fmt: skip
    return device


def _parsed(name: str) -> torch.device | None:
    try:
        return torch.device(name)
    except RuntimeError:
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """True where less at once might have worked."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID_BY_LIBRARIES)


def free_unused(device: torch.device) -> None:
    """Gives cached memory back; call it where no traceback holds the tensors of a pass that failed."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
