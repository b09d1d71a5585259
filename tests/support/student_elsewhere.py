"""`python -m tests.support.student_elsewhere FOLDER`: trains on a device that is not there and on the CPU.

A process of its own: the device is registered for good. Says as JSON how far they are apart:
`{"runs": {NAME: difference}, "recipes": {NAME: difference}, ...}`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from preceptor.recipes.strict_yaml import read_yaml
from preceptor_proto.v1 import student_pb2
from preceptor_serving.durable import make_folder
from preceptor_serving.models.device import KINDS
from tests.objectives.test_shipped_recipes import FILES, slope
from tests.support.pretend_device import NAME, Pretending
from tests.unit.preceptor_student import stepping
from tests.unit.preceptor_student.test_engine import made_batches

RUNS: dict[str, dict[str, Any]] = {
    "whole": {},
    "packed": {"training": {"layout": "packed"}},
    "bf16": {"training": {"precision": "bf16"}},
    "adapter": {"training": {"lora": {"rank": 4, "alpha": 8}}},
}


def trained(root: Path, device: str, changes: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Two steps, a checkpoint, a second engine that goes on from it, an evaluation, a version: every number that was said."""
    compiled = stepping.recipe(stepping.REVERSE_KL, stepping.K1, **changes)
    for step in (1, 2):
        student = stepping.engine(root, device=device)
        torch.use_deterministic_algorithms(mode=False)  # which the CPU alone would have: the same kernels for both
        epoch = stepping.open_run(student, compiled).epoch
        reply = stepping.take_step(student, compiled, made_batches(step), epoch, step)
        yield from ((f"{step}.{name}", value) for name, value in reply.metrics.items())
        student.checkpoint(student_pb2.CheckpointRequest(run="r", epoch=epoch))
        for name, tensor in stepping.weights_of(student).items():
            yield f"{step}.{name}", float(tensor.double().abs().sum())
        student.publish(student_pb2.PublishRequest(run="r", epoch=epoch))
        student.close()


def difference(folder: Path, changes: dict[str, Any]) -> float:
    """Relative, of the number that is furthest off."""
    here, there = (dict(trained(make(folder / device), device, changes)) for device in ("cpu", NAME))
    assert here.keys() == there.keys()
    assert len(here) > 40
    return max(abs(here[name] - there[name]) / max(abs(here[name]), 1e-6) for name in here)


def make(folder: Path) -> Path:
    make_folder(folder)
    return folder


def main() -> None:
    root = Path(sys.argv[1])
    KINDS.add(NAME)
    with Pretending(), sdpa_kernel(SDPBackend.MATH):
        runs = {name: difference(make(root / name), changes) for name, changes in RUNS.items()}
        values = {name: read_yaml(path) for name, path in FILES.items()}
        recipes = {name: float((slope(one) - slope(one, NAME)).abs().max()) for name, one in values.items()}
    sys.stdout.write(json.dumps({"runs": runs, "recipes": recipes}))


if __name__ == "__main__":
    torch.__future__.set_swap_module_params_on_conversion(True)  # tied weights stay one tensor when they move, as real ones do
    main()
