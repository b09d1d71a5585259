"""The model that every run of this process starts from: one frozen copy for all adapters, a copy of its own for a full run."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from preceptor.recipes import ALL_LINEAR, Lora, RunConfig
from preceptor_serving.models.adapters import with_adapter
from preceptor_serving.models.folder import folder_sha256
from preceptor_serving.models.load import load_causal_lm
from preceptor_student.head import check_head


class Bases:
    """Models over one folder. Frozen copies are loaded when the first adapter needs them, one for each precision."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder = folder
        self.sha256 = folder_sha256(folder)
        self._device = device
        self._frozen: dict[str, PreTrainedModel] = {}

    def model_for(self, config: RunConfig, hold_frozen: bool = True) -> PreTrainedModel:
        """A model whose trainable parameters carry gradients. In evaluation mode: what drew is what trains.

        Whoever cuts an adapter's base into parts does not hold the whole one: it is read anew for each run.
        """
        lora, precision = config.training.lora, config.training.precision
        if lora is None:
            model = self._loaded(precision).requires_grad_(requires_grad=True)
        else:
            base = self.frozen(precision) if hold_frozen else self._loaded(precision)
            model = with_adapter(base, lora.rank, lora.alpha, _targets(lora), config.seed)
        check_head(model)
        return model

    def frozen(self, precision: str) -> PreTrainedModel:
        """The base that adapters share; nobody writes into it."""
        if precision not in self._frozen:
            self._frozen[precision] = self._loaded(precision)
        return self._frozen[precision]

    def _loaded(self, precision: str) -> PreTrainedModel:
        return load_causal_lm(self.folder, precision, self._device)  # pyright: ignore[reportArgumentType]


def _targets(lora: Lora) -> tuple[str, ...] | str:
    return ALL_LINEAR if lora.target_modules == (ALL_LINEAR,) else lora.target_modules
