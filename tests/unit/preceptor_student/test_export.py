"""A version becomes a folder that transformers loads: whole ones as they are, adapters merged into their base."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from preceptor.errors import ConfigurationError, Corrupt, NotFound, WrongPair
from preceptor_proto.v1 import student_pb2
from preceptor_student.export import export, main
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches, opened
from tests.unit.preceptor_student.test_training import BASE, LORA, logits_of


def published(root, training: dict, steps: int = 2) -> list[torch.Tensor]:
    """A run `r` with a version of each step; what the student computed under each of them."""
    compiled = stepping.recipe(training=training)
    student, epoch = opened(root, compiled)
    seen: list[torch.Tensor] = []
    for step in range(1, steps + 1):
        stepping.take_step(student, compiled, made_batches(step), epoch, step)
        student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
        seen.append(logits_of(student._runs["r"].trainer.model))
    student.close()
    return seen


@pytest.mark.parametrize("training", [{}, LORA], ids=["whole", "adapter"])
def test_an_exported_version_loads_and_computes_what_the_student_did(training, tmp_path):
    first, newest = published(tmp_path, training)
    export(tmp_path / "r", BASE, tmp_path / "out")
    export(tmp_path / "r", BASE, tmp_path / "one", step=1)
    for name, wanted in (("out", newest), ("one", first)):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name, local_files_only=True)
        torch.testing.assert_close(logits_of(model), wanted, rtol=1e-4, atol=1e-4)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name, local_files_only=True)
        assert tokenizer.chat_template == (BASE / "chat_template.jinja").read_text()
    assert (first - newest).abs().max() > 1e-3


def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, capsys):
    published(tmp_path, LORA, steps=1)
    with pytest.raises(NotFound, match="no such version"):
        export(tmp_path / "r", BASE, tmp_path / "out", step=7)
    with pytest.raises(WrongPair):
        export(tmp_path / "r", stepping.TINY / "teacher", tmp_path / "out")
    assert main([str(tmp_path / "r"), str(tmp_path / "out"), "--base", str(BASE)]) == 0
    with pytest.raises(ConfigurationError, match="already"):
        export(tmp_path / "r", BASE, tmp_path / "out")
    weights = tmp_path / "r" / "versions" / "step-1-epoch-1" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(Corrupt):
        export(tmp_path / "r", BASE, tmp_path / "again")
    assert main([str(tmp_path / "r"), str(tmp_path / "again"), "--base", str(BASE)]) == 1
    assert "adapter_model.safetensors" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "r"]
