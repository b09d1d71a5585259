"""A teacher holds as many published versions as fit: the one used longest ago makes room, a pinned or used one never does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from preceptor.errors import Conflict, DeadlineExceeded, Exhausted, PermissionDenied, VersionGone
from preceptor.types import ModelInfo, ModelRef
from preceptor_serving.engines.fake import FakeEngine, FakeOptions
from preceptor_serving.run_owner import FILE
from preceptor_serving.weights import version_name, versions_folder, write_manifest
from preceptor_teacher.versions import Versions

OWN = FakeEngine(FakeOptions()).describe()[0]
ROOM = 2  # published versions beside the operator's


class Engine:
    """Says what it holds; refuses what does not fit, as an engine does."""

    def __init__(self, room: int = ROOM) -> None:
        self.room, self.held, self.loads = room, dict.fromkeys([OWN.model], OWN), list[int]()

    async def describe(self) -> tuple[ModelInfo, ...]:
        return tuple(self.held.values())

    async def load_version(self, version: ModelRef, folder: str) -> None:
        assert (Path(folder) / "model.safetensors").is_file()
        await asyncio.sleep(0)
        if len(self.held) > self.room:
            raise Exhausted("no room for another version", field="version", value=version.step, limit=self.room)
        self.held[version] = replace(OWN, model=version)
        self.loads.append(version.step)

    async def drop_version(self, version: ModelRef) -> None:
        await asyncio.sleep(0)
        del self.held[version]

    @property
    def steps(self) -> set[int]:
        return {ref.step for ref in self.held if ref.run}


def published(root: Path, step: int, run: str = "run") -> ModelRef:
    ref = ModelRef("tiny", run, 1, step, bytes(32))
    folder = versions_folder(root, run) / version_name(ref)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes([step]))
    return replace(ref, manifest_sha256=write_manifest(folder))


async def shelf(root: Path, engine: Engine, wait_s: float = 5.0) -> Versions:
    versions = Versions(engine, (root,), wait_s)  # pyright: ignore[reportArgumentType]
    await versions.start()
    return versions


async def test_latest_stays_the_operators_whatever_runs_publish(tmp_path: Path) -> None:
    versions = await shelf(tmp_path, Engine())
    ref = published(tmp_path, 1)
    assert (await versions.find(ref, None)).model == ref
    assert await versions.find(None, None) == OWN
    assert versions.infos[0] == OWN
    assert versions.tally.held == 2


async def test_the_version_used_longest_ago_makes_room_and_comes_back_when_it_is_named(tmp_path: Path) -> None:
    engine = Engine()
    versions = await shelf(tmp_path, engine)
    refs = [published(tmp_path, step) for step in (1, 2, 3)]
    await versions.find(refs[0], None)
    await versions.find(refs[1], None)
    async with versions.used(refs[0]):
        pass
    await versions.find(refs[2], None)
    assert engine.steps == {1, 3}
    assert [info.model.step for info in versions.infos[1:]] == [3, 1, 2]
    assert (await versions.find(refs[1], None)).model == refs[1]
    assert engine.steps == {2, 3}


async def test_a_pinned_version_is_never_put_away_and_what_does_not_fit_beside_it_is_refused(tmp_path: Path) -> None:
    engine = Engine()
    versions = await shelf(tmp_path, engine)
    refs = [published(tmp_path, step) for step in (1, 2, 3)]
    for ref in refs[:2]:
        await versions.pin(ref, pinned=True)
    assert (versions.tally.held, versions.tally.pinned) == (3, 2)
    with pytest.raises(Exhausted) as refused:
        await versions.find(refs[2], None)
    assert "unpin" in refused.value.hint
    assert engine.steps == {1, 2}
    await versions.pin(refs[0], pinned=False)
    await versions.find(refs[2], None)
    assert engine.steps == {2, 3}


async def test_a_version_in_use_is_waited_for_and_the_wait_ends(tmp_path: Path) -> None:
    engine = Engine(room=1)
    versions = await shelf(tmp_path, engine, wait_s=0.05)
    first, second = published(tmp_path, 1), published(tmp_path, 2)
    async with versions.used(first):
        with pytest.raises(DeadlineExceeded):
            await versions.find(second, None)
        with pytest.raises(DeadlineExceeded):
            await versions.drop(first)
        assert engine.steps == {1}
        versions.wait_s = 5.0
        waiting = asyncio.create_task(versions.find(second, None))
        await asyncio.sleep(0.01)
        assert engine.steps == {1}
    await waiting
    assert engine.steps == {2}


async def test_what_the_engine_lost_is_loaded_once_however_many_ask(tmp_path: Path) -> None:
    engine = Engine()
    versions = await shelf(tmp_path, engine)
    ref = published(tmp_path, 1)
    await versions.pin(ref, pinned=True)
    del engine.held[ref]
    versions.lost(ref)
    await asyncio.gather(*(versions.find(ref, None) for _ in range(5)))
    assert engine.loads == [1, 1]
    assert versions.tally.pinned == 1


async def test_a_dropped_version_is_forgotten_and_dropping_an_unknown_one_changes_nothing(tmp_path: Path) -> None:
    engine = Engine()
    versions = await shelf(tmp_path, engine)
    ref = published(tmp_path, 1)
    await versions.drop(ref)
    await versions.pin(ref, pinned=True)
    await versions.drop(ref)
    assert (engine.steps, versions.infos, versions.tally.pinned) == (set(), (OWN,), 0)


async def test_only_files_that_the_manifest_names_are_loaded(tmp_path: Path) -> None:
    versions = await shelf(tmp_path, Engine())
    ref = published(tmp_path, 1)
    with pytest.raises(Conflict):
        await versions.find(replace(ref, manifest_sha256=bytes(32)), None)
    with pytest.raises(VersionGone):
        await versions.find(replace(ref, step=9), None)
    with pytest.raises(VersionGone):
        await versions.find(ModelRef("other", manifest_sha256=bytes(32)), None)


async def test_another_tenants_run_teaches_nobody_else(tmp_path: Path) -> None:
    versions = await shelf(tmp_path, Engine())
    ref = published(tmp_path, 1)
    (tmp_path / "run" / FILE).write_text("acme")
    with pytest.raises(PermissionDenied):
        await versions.find(ref, "globex")
    assert (await versions.find(ref, "acme")).model == ref
    with pytest.raises(PermissionDenied):  # also when it is in memory already
        await versions.find(ref, "globex")
