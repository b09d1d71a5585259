"""Which weights draw for which run.

The door knows the current version of every run and the folder it came from; the engine keeps some of them in memory. What it
let go of, or lost with its process, is loaded again from the same immutable folder when a unit needs it. A run without a
version of its own draws from the student of the settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from preceptor.errors import Conflict, Fenced, InvalidArgument, Unavailable, Unsupported
from preceptor.logs import get_logger
from preceptor.types import ModelRef
from preceptor_proto.v1 import rollout_pb2
from preceptor_serving.engine_host.channel import EngineChannel
from preceptor_serving.engine_host.scoring import ScoringClient
from preceptor_serving.weights import find_version

FindFolder = Callable[[ModelRef], Path]
"""The folder of a version among the operator's roots, its files verified against the manifest. Blocks; raises what is wrong."""

RETRY_WHEN_BEHIND_S = 1.0
log = get_logger("preceptor.weights")


@dataclass(frozen=True, slots=True)
class Version:
    """Weights and where they are."""

    ref: ModelRef
    folder: Path


class Versions:
    """The current version of each run. Swaps are one at a time."""

    def __init__(self, engine: EngineChannel, base: Version, find_folder: FindFolder) -> None:
        self._engine = ScoringClient(engine)
        self._base, self._find_folder = base, find_folder
        self._of_run: dict[str, Version] = {}
        self._newest = base
        self._swapping = asyncio.Lock()

    @property
    def newest(self) -> Version:
        """The one that was swapped in last."""
        return self._newest

    def of(self, run: str, min_step: int | None = None) -> Version:
        """What draws for the run now; weights older than `min_step` are refused, for the moment."""
        version = self._of_run.get(run, self._base)
        if min_step is not None and version.ref.step < min_step:
            raise Unavailable(
                f"run {run} draws from the weights of step {version.ref.step}; step {min_step} or newer was asked for",
                field="min_weight_step",
                value=min_step,
                limit=version.ref.step,
                hint="load the newer version with LoadWeights",
                retry_after_s=RETRY_WHEN_BEHIND_S,
            )
        return version

    async def swap(self, ref: ModelRef) -> Version:
        """Makes this version its run's current one; returns when the engine holds it. Units that run end under theirs."""
        async with self._swapping:
            current = self._of_run.get(ref.run)
            if current is not None and current.ref == ref:
                return current
            check_order(ref, current)
            version = Version(ref, await asyncio.to_thread(self._find_folder, ref))
            await self.load(version)
            self._of_run[ref.run] = self._newest = version
            if current is not None:
                await self._engine.drop_version(current.ref)
            log.info("weights_swapped", run=ref.run, epoch=ref.epoch, step=ref.step)
            return version

    async def load(self, version: Version) -> None:
        """Returns when the engine holds it."""
        await self._engine.load_version(version.ref, str(version.folder))


def folders_under(roots: Sequence[Path]) -> FindFolder:
    """Finds and verifies versions under these roots."""

    def find(ref: ModelRef) -> Path:
        return find_version(roots, ref).folder

    return find


def check_policy(policy: rollout_pb2.SwapPolicy) -> None:
    """Refuses what this engine cannot do with sequences that are running."""
    if policy != rollout_pb2.SWAP_POLICY_FINISH:
        known = policy in rollout_pb2.SwapPolicy.values()
        name = rollout_pb2.SwapPolicy.Name(policy) if known else str(policy)
        raise Unsupported(
            f"this engine does not swap under running sequences ({name})",
            field="policy",
            value=name,
            limit="SWAP_POLICY_FINISH",
            hint="running sequences end under the weights they began with",
        )


def check_order(ref: ModelRef, current: Version | None) -> None:
    """Versions of a run go forward: a new epoch may start anywhere, within one the step only grows."""
    if not ref.run:
        raise InvalidArgument("a version belongs to a run", field="version.model.run", value="", limit="a run's name")
    if current is None:
        return
    now = current.ref
    if (ref.epoch, ref.step) == (now.epoch, now.step):
        raise Conflict(
            "another manifest has this run, epoch and step",
            field="version.model.manifest_sha256",
            value=ref.manifest_sha256.hex(),
            limit=now.manifest_sha256.hex(),
        )
    if (ref.epoch, ref.step) < (now.epoch, now.step):
        raise Fenced(
            f"run {ref.run} draws from epoch {now.epoch}, step {now.step} already",
            field="version.model",
            value=f"epoch {ref.epoch}, step {ref.step}",
            limit=f"epoch {now.epoch}, step {now.step}",
        )
