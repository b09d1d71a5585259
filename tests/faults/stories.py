"""What else happens to a run: stopped, slow, torn and forgetful servers, long work, twins, clocks that jump."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from preceptor.queue import Flow
from tests.faults.kills import STEPS, compare
from tests.faults.marks import marks
from tests.faults.results import Outcome
from tests.faults.stage import DiedWrongly, Ended, Harm, Script, Stage, no_harm, perform
from tests.faults.worker_process import TEACHER
from tests.unit.preceptor.learner.world import RUN, TENANT

FLOW = Flow(TEACHER, TENANT, RUN)
SLOWLY = Script(engine={"tokens_per_s": 60.0})  # so that there is time for harm
STOPPED_S = 15.0


@dataclass(frozen=True)
class Tale:
    """A named run and its harm. `once`: no row may be computed twice either; `proof` says what must have happened."""

    name: str
    script: Script = SLOWLY
    harm: Harm = no_harm
    once: bool = False
    proof: Callable[[Stage, Ended], str] = lambda stage, ended: ""


async def tell(folder: Path, tale: Tale, seed: int, calm: Ended) -> Outcome:
    """The tale's outcome; a proof that fails is its problem."""
    began, seen = time.monotonic(), list[Stage]()

    async def harm(stage: Stage) -> None:
        seen.append(stage)
        await tale.harm(stage)

    try:
        ended = await perform(folder, tale.script, harm)
        detail = tale.proof(seen[0], ended)
    except (DiedWrongly, TimeoutError, AssertionError) as error:
        problem = f"{type(error).__name__}: {error}"
        return Outcome("story", tale.name, seed, 0, STEPS, 0, False, time.monotonic() - began, problem)
    asked = compare("story", tale.name, ended, calm)
    twice = f"{ended.scored_twice} of {ended.reached['rows computed']} pieces of work done twice"
    problem = twice if tale.once and ended.scored_twice else "" if asked["equal"] else "other final weights"
    if tale.once and ended.reserved:
        problem = f"{ended.reserved} reservations leaked"
    text = "; ".join(filter(None, [detail, twice, "final weights bit-equal"]))
    return Outcome(seed=seed, hit=1, seconds=time.monotonic() - began, problem=problem, detail=text, **asked)


async def some_work(stage: Stage) -> None:
    """Some rows are committed, more are to come."""
    assert await stage.until(lambda: stage.count("reached", "rows committed") >= 2), "the run was over before the harm was done"


# ---------------------------------------------------------------- the server


async def stop_server(stage: Stage) -> None:
    await some_work(stage)
    os.kill(stage.server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        os.kill(stage.server.pid, signal.SIGCONT)


async def older_file(stage: Stage) -> None:
    """The append-only file as it was after the first commits replaces that of a run that has come further."""
    folder, older = stage.server.folder / "appendonlydir", stage.folder / "older"
    await some_work(stage)
    await asyncio.to_thread(_restart, stage, lambda: shutil.copytree(folder, older))
    then = stage.count("reached", "rows journaled")
    assert await stage.until(lambda: stage.count("reached", "rows journaled") >= then + 3), "the run was over too soon"
    await asyncio.to_thread(_restart, stage, lambda: (shutil.rmtree(folder), shutil.copytree(older, folder)))


def _restart(stage: Stage, meanwhile: Callable[[], object]) -> None:
    stage.server.stop()
    meanwhile()
    stage.server.start()


def delete(*keys: str) -> Harm:
    """Deletes keys whenever they are there, until the run is over."""

    async def harm(stage: Stage) -> None:
        client = stage.client()
        while not stage.over.is_set():
            stage.deleted += await asyncio.to_thread(client.delete, *keys)
            await asyncio.sleep(0.01)
        client.close()

    return harm


async def empty_server(stage: Stage) -> None:
    client = stage.client()
    for _ in range(2):
        then = stage.count("reached", "rows committed")
        assert await stage.until(lambda then=then: stage.count("reached", "rows committed") >= then + 2), (
            "the run was over too soon"
        )
        await asyncio.to_thread(client.flushall)
        await asyncio.to_thread(client.script_flush)
        stage.deleted += 1
    client.close()


def deleted(what: str) -> Callable[[Stage, Ended], str]:
    def proof(stage: Stage, _: Ended) -> str:
        assert stage.deleted, "nothing was there to be deleted"
        return f"{what} {stage.deleted} times"

    return proof


# ---------------------------------------------------------------- connections


async def latency(stage: Stage) -> None:
    rng = random.Random(1)
    stage.proxy.delay_s = lambda: rng.uniform(0.002, 0.03)


async def resets(stage: Stage) -> None:
    while not stage.over.is_set():
        await asyncio.sleep(0.25)
        stage.proxy.cut_all()


def were_cut(stage: Stage, _: Ended) -> str:
    assert stage.proxy.cuts, "no connection was cut"
    return f"{stage.proxy.cuts} connections reset"


async def half_open(stage: Stage) -> None:
    """A silent connection costs the patience of one attempt, 5 s."""
    for _ in range(2):
        await some_work(stage)
        stage.proxy.silence_all()
        await asyncio.sleep(6.0)


# ---------------------------------------------------------------- workers


def long_leases(stage: Stage, ended: Ended) -> str:
    renewed = ended.reached.get("lease renewed", 0)
    assert renewed >= ended.reached["rows computed"], "the leases were hardly renewed"
    return f"{renewed} renewals for {ended.reached['rows computed']} pieces of work"


def both_worked(stage: Stage, ended: Ended) -> str:
    shares = [marks(stage.marks_of(f"worker-{place}"))["reached", "rows computed"] for place in (0, 1)]
    return f"shares {shares[0]} and {shares[1]}"


TALES = (
    Tale(f"server stopped (SIGSTOP) for {STOPPED_S:.0f} s", harm=stop_server),
    Tale("server restored from an older append-only file", harm=older_file),
    Tale("`ready` deleted as soon as it is there", harm=delete(FLOW.ready), proof=deleted("deleted")),
    Tale("`out` deleted as soon as it is there", harm=delete(FLOW.out), proof=deleted("deleted")),
    Tale("server emptied, scripts too, twice", harm=empty_server, proof=deleted("emptied")),
    Tale("every piece of data 2 to 30 ms late, both ways", harm=latency),
    Tale("all connections reset every 0.25 s", harm=resets, proof=were_cut),
    Tale("all connections half open, twice", harm=half_open),
    Tale("wall clocks of learner and worker jump by up to 6 h, both ways", Script(clock_jumps=1)),
    Tale(
        "each engine call takes 5 leases, two workers",
        Script(worker_names=("w0", "w1"), lease_s=0.6, call_s=3.0, engine={}, limit_s=180.0),
        once=True,
        proof=long_leases,
    ),
    Tale("two workers of one name", replace(SLOWLY, worker_names=("twin", "twin")), once=True, proof=both_worked),
)
