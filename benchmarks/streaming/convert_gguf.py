"""`python -m benchmarks.streaming.convert_gguf FILE.gguf FOLDER`: a model folder in f32 from a GGUF file of a Llama.

Runs in a process of its own, because it needs `gguf` and `accelerate`, which nothing else here does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

NOT_KEPT = ("quantization_config", "_name_or_path")  # with these, transformers refuses to save


def convert(file: Path, folder: Path) -> None:
    """Weights are those that the file's quantised ones stand for."""
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name, "local_files_only": True}
    quantised: Any = AutoModelForCausalLM.from_pretrained(**where)
    fields = {name: value for name, value in quantised.config.to_dict().items() if name not in NOT_KEPT}
    model = LlamaForCausalLM(LlamaConfig.from_dict(fields))
    model.load_state_dict(quantised.state_dict())
    model.eval().save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
