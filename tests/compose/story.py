"""What an operator counts on, shown on real containers: up, a run, a run through crashes with the same weights, down and up."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterable

from tests.compose.deployment import ROOT, Deployment
from tests.compose.tools import Failed, Steps

SERVICES = ("teacher", "rollout", "student")
RUN_S = 400.0
KEYS_NOTICED_S = 2.0  # services look once a second
RECIPE = ("recipes/tiny-reverse-kl.yaml", "schedule.steps=6", "schedule.prompts_per_step=8", "evaluation=null")
LEARN = ("learn", *RECIPE, "--resume", "--run")
ONE_RUN = ("run", "--rm", "-T", "--no-deps", "learner")
NEWEST = """
import glob, hashlib, os, sys
newest = max(glob.glob(f"/weights/{sys.argv[1]}/versions/*/model.safetensors"), key=os.path.getmtime)
print(hashlib.sha256(open(newest, "rb").read()).hexdigest())
"""
READ = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", "learner")


def check_files(deployment: Deployment) -> None:
    """Compose accepts the file, alone and with the one for GPUs."""
    deployment.compose("config", "--quiet")
    deployment.compose("--file", str(ROOT / "docker-compose.gpu.yml"), "config", "--quiet")


def tell(deployment: Deployment, steps: Steps) -> None:
    """The whole story, one line for each thing shown; `Failed` at the first that does not hold."""
    deployment.compose("build", timeout_s=1500)
    steps.ok("the images are built")
    deployment.up()
    steps.ok("up --wait: every service is healthy")
    check_doors(deployment)
    steps.ok("doors answer on loopback, ask for a key, and run without rights")
    check_new_key(deployment)
    steps.ok("a key made while they run is good within a second")
    deployment.compose(*ONE_RUN, *LEARN, "calm", timeout_s=RUN_S)
    calm = weights_of(deployment, "calm")
    steps.ok(f"a learner has run: {summary_of(deployment, 'calm')}")
    through_crashes(deployment, "stormy", [*SERVICES, "queue"])
    expect(weights_of(deployment, "stormy"), calm, "the weights after four crashes")
    steps.ok("the same run with teacher, rollout, student and queue killed on its way ends with the same weights, bit by bit")
    stops_in_order(deployment)
    steps.ok("stop: every service drains and ends with 0")
    deployment.compose("down", timeout_s=180)
    deployment.up()
    deployment.compose(*ONE_RUN, *LEARN, "calm", timeout_s=RUN_S)
    expect(weights_of(deployment, "calm"), calm, "the weights after down and up")
    steps.ok("down, then up: keys, runs and weights are still there")


def check_doors(deployment: Deployment) -> None:
    for name in SERVICES:
        expect(deployment.get(name, "/readyz"), 200, f"{name} /readyz")
        expect(deployment.get(name, "/metrics"), 401, f"{name} /metrics without a key")
        expect(deployment.compose("exec", "-T", name, "id", "-u").strip(), "10001", f"{name}'s user")
        bindings = deployment.state(name)["HostConfig"]["PortBindings"]
        expect({one["HostIp"] for ports in bindings.values() for one in ports}, {"127.0.0.1"}, f"{name} listens on")
        if deployment.try_compose("exec", "-T", name, "touch", "/opt/preceptor/x").code == 0:
            raise Failed(f"{name} can write to its image")
    refused = deployment.try_compose("exec", "-T", "queue", "redis-cli", "info").output
    if "NOAUTH" not in refused:
        raise Failed(f"the queue answers strangers: {refused}")


def check_new_key(deployment: Deployment) -> None:
    """A key that is made while services run opens their doors, though they were not told."""
    volume = f"{deployment.project}_secrets-services:/keys"
    create = ("keys", "create", "--key-file", "/keys/keys.yaml", "--tenant", "acme", "--scope", "metrics")
    key = deployment.compose("run", "--rm", "-T", "--no-deps", "--volume", volume, "learner", *create).split()
    (secret,) = [word for word in key if word.startswith("pk_")]
    time.sleep(KEYS_NOTICED_S)
    expect([deployment.get(name, f"/k/{secret}/metrics") for name in SERVICES], [200, 200, 200], "/metrics with a new key")


def through_crashes(deployment: Deployment, run: str, victims: Iterable[str]) -> None:
    """A run during which each victim is killed once, each after another step of the run."""
    with subprocess.Popen(
        deployment.command((*ONE_RUN, *LEARN, run)),
        env=deployment.environ(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as learner:
        ends = threading.Timer(RUN_S, learner.kill)  # a learner that tells nothing more ends as well
        ends.start()
        lines: list[str] = []
        waiting = list(victims)
        for line in learner.stdout or ():
            lines.append(line)
            if '"event": "step"' in line and waiting:
                deployment.crash(waiting.pop(0))
        ends.cancel()
        expect(learner.wait(), 0, f"exit code of the learner:\n{''.join(lines[-30:])}\n")
    expect(waiting, [], "victims that outlived the run")
    for name in (*SERVICES, "queue"):
        restarts = deployment.state(name)["RestartCount"]
        expect(restarts >= 1, True, f"{name} was restarted ({restarts} times)")


def stops_in_order(deployment: Deployment) -> None:
    deployment.compose("stop", timeout_s=200)
    for name in (*SERVICES, "queue"):
        expect(deployment.state(name)["State"]["ExitCode"], 0, f"exit code of {name}")


def summary_of(deployment: Deployment, run: str) -> str:
    summary = json.loads(deployment.compose(*READ, f"runs/{run}/summary.json"))
    return ", ".join(f"{name} {summary[name]}" for name in summary if isinstance(summary[name], int | float))


def weights_of(deployment: Deployment, run: str) -> str:
    """The digest of the newest published weights of a run."""
    return deployment.compose("exec", "-T", "student", "python", "-c", NEWEST, run).strip()


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Failed(f"{what}: {found!r} instead of {wanted!r}")


def clear(deployment: Deployment) -> None:
    """Nothing of the deployment is left: containers, networks, volumes."""
    deployment.try_compose("--profile", "learner", "down", "--volumes", "--remove-orphans", "--timeout", "20", timeout_s=180)
