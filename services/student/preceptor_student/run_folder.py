"""The folder of one run: who may write (lock and epoch), what it trains (run.json), and which step is durable (head.json).

    <root>/<run>/lock  run.json  head.json  checkpoints/step-N/  versions/...  copies/NAME/...

head.json is replaced as one file. A checkpoint that it does not name is not durable yet, or was left behind by a restore.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from preceptor.errors import Conflict, NotFound, Unavailable
from preceptor.limits import check_name
from preceptor.types import AdapterRef, ModelRef
from preceptor_serving.durable import make_folder, remove_leftovers, write_file


@dataclass(frozen=True, slots=True)
class Head:
    """What is durable. Epoch 0: nobody has opened the run yet."""

    epoch: int = 0
    durable_step: int = 0
    checkpoint_sha256: str = ""  # of its manifest; empty at step 0, which is the base model
    published: dict[str, Any] = field(default_factory=dict)
    copies: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the student, as of `published`

    @property
    def published_ref(self) -> ModelRef | None:
        if not self.published:
            return None
        return _ref_from_json(self.published)

    @property
    def copy_refs(self) -> dict[str, ModelRef]:
        """What stands in for the student as a teacher, by the run's name for it."""
        return {name: _ref_from_json(plain) for name, plain in self.copies.items()}


def ref_to_json(ref: ModelRef) -> dict[str, Any]:
    """A version's name as head.json keeps it."""
    plain = {"name": ref.name, "run": ref.run, "epoch": ref.epoch, "step": ref.step, "manifest_sha256": ref.manifest_sha256.hex()}
    if ref.adapter is None:
        return plain
    return plain | {"adapter": {"name": ref.adapter.name, "manifest_sha256": ref.adapter.manifest_sha256.hex()}}


def _ref_from_json(plain: dict[str, Any]) -> ModelRef:
    digest = {"manifest_sha256": bytes.fromhex(plain["manifest_sha256"])}
    adapter = plain.get("adapter")
    named = AdapterRef(adapter["name"], bytes.fromhex(adapter["manifest_sha256"])) if adapter else None
    return ModelRef(**{**plain, **digest, "adapter": named})


class RunFolder:
    """One run's folder, locked for this process until `close`."""

    def __init__(self, root: Path, run: str) -> None:
        self.path = root / check_name(run, "run")
        make_folder(self.path)
        self._lock = (self.path / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Unavailable(
                f"another process trains {run!r}", field="run", value=run, hint="stop it, or give this run another name"
            ) from None
        for folder in (self.path, self.checkpoints, self.path / "versions"):
            make_folder(folder)
            remove_leftovers(folder)
        self.head = read_head(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"step-{step}"

    def keep_config(self, config: dict[str, Any]) -> None:
        """Keeps what the run is started with, once it is known to start."""
        path = self.path / "run.json"
        if not path.exists():
            write_file(path, json.dumps(config, sort_keys=True, indent=1).encode())

    def check_config(self, config: dict[str, Any]) -> None:
        """`Conflict` where the run is asked to be something else than it was started as."""
        path = self.path / "run.json"
        stored = json.loads(path.read_bytes()) if path.exists() else config
        odd = sorted(key for key in stored.keys() | config.keys() if stored.get(key) != config.get(key))
        if odd:
            raise Conflict(
                f"{self.path.name} was started with another {odd[0]}", field=f"config_json.{odd[0]}", value=config.get(odd[0]),
                limit=stored.get(odd[0]), hint="give the new configuration a new run name",
            )  # fmt: skip

    def take_over(self, durable_step: int, checkpoint_sha256: str) -> int:
        """Starts the next epoch from a durable step; nobody's older epoch writes after that."""
        self.set_head(
            replace(self.head, epoch=self.head.epoch + 1, durable_step=durable_step, checkpoint_sha256=checkpoint_sha256)
        )
        return self.head.epoch

    def set_head(self, head: Head) -> None:
        """Durable when it returns."""
        write_file(self.path / "head.json", json.dumps(asdict(head), sort_keys=True, indent=1).encode())
        self.head = head

    def close(self) -> None:
        self._lock.close()


def read_head(folder: Path) -> Head:
    """What is durable in a run's folder, whoever has it open."""
    path = folder / "head.json"
    return Head(**json.loads(path.read_bytes())) if path.exists() else Head()


def closed_head(root: Path, run: str) -> Head:
    """The head of a run that is not open here; `NotFound` where there is no such run."""
    folder = root / check_name(run, "run")
    if not (folder / "head.json").exists():
        raise NotFound(f"there is no run {run!r}", field="run", value=run, hint="open it first")
    return read_head(folder)
