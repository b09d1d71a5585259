"""The worked example of four GPUs: its rendered file is the committed one, and says only what our own programs understand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from preceptor.cli.app import build_app, run
from preceptor.config import TeacherSettings, load
from preceptor.config.settings import ClientSettings
from preceptor.errors import ConfigurationError
from preceptor_serving.vllm.arguments import written_arguments
from preceptor_teacher.catalog import TeacherSpec, read_teachers, teachers_of
from preceptor_teacher.compose import render, seen_from

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "configs" / "teachers-4gpu.yaml"
RENDERED = ROOT / "configs" / "teachers-4gpu.compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(RENDERED.read_text())["services"]
BASE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
TEACHERS = {name: service for name, service in COMPOSE.items() if "command" in service}


def rendered(folder: Path, text: str) -> dict[str, Any]:
    (folder / "teachers.yaml").write_text(text)
    return yaml.safe_load(render(folder / "teachers.yaml", "./teachers.yaml"))["services"]


def flags_of(service: dict[str, Any]) -> dict[str, Any]:
    """What `preceptor serve teacher` reads from the arguments of a container, by the parser of the command line itself."""
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
    assert re.search(r'ENTRYPOINT \["preceptor", "serve", "teacher"\]', dockerfile)
    command: Any = typer.main.get_command(build_app("serve teacher"))
    for name in ("serve", "teacher"):
        command = command.commands[name]
    context = command.make_context("teacher", list(service["command"]))
    return {name: value for name, value in context.params.items() if value is not None}


def test_the_committed_file_is_what_the_command_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run(["teachers", "render", "configs/teachers-4gpu.yaml", "--out", str(tmp_path / "made.yml")]) == 0
    assert (tmp_path / "made.yml").read_text() == RENDERED.read_text()
    assert run(["teachers", "render", "configs/teachers-4gpu.yaml"]) == 0
    assert capsys.readouterr().out == RENDERED.read_text()


def test_every_argument_and_variable_is_one_that_the_service_knows(tmp_path):
    (tmp_path / "redis.password").write_text("a secret\n")
    for name, service in TEACHERS.items():
        flags = flags_of(service)
        environ = {key: value.replace("/secrets/redis", f"{tmp_path}/redis") for key, value in service["environment"].items()}
        settings = load(TeacherSettings, flags=flags, file=None, environ=environ).settings
        assert name == f"teacher-{settings.only}"
        assert settings.gpus_from == "container"
        mounts = {target: source for source, target, _ in (volume.rsplit(":", 2) for volume in service["volumes"])}
        assert mounts[str(settings.teachers_file)] == "./configs/teachers-4gpu.yaml"
        assert {"/secrets", "/models"} <= mounts.keys()
        here = settings.model_copy(update={"teachers_file": EXAMPLE})
        assert [spec.name for spec in teachers_of(here)] == [settings.only]


def test_a_flag_that_nobody_has_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        flags_of({**TEACHERS["teacher-large"], "command": ["--onley", "large"]})


def test_each_gpu_is_reserved_once_and_a_service_has_those_of_the_file():
    reserved = {
        name: service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for name, service in TEACHERS.items()
    }
    assert reserved == {"teacher-large": ["0", "1"], "teacher-math": ["2"], "teacher-code": ["3"]}


def test_services_use_the_queue_and_secrets_that_are_there_and_collide_with_nothing():
    for service in TEACHERS.values():
        assert set(service["depends_on"]) <= BASE["services"].keys()
        for volume in service["volumes"]:
            source = volume.rsplit(":", 2)[0]
            assert source in BASE["volumes"] or source.startswith(("./", "${"))
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert not [key for key in service["environment"] if key.endswith(("PASSWORD", "_KEY"))]
    published = [port for service in TEACHERS.values() for port in service["ports"]]
    assert len({port.split(":")[1] for port in published}) == len(published)
    taken = re.findall(r":-(\d+)\}", str([one.get("ports") for one in BASE["services"].values()]))
    assert not {port.split(":")[1] for port in published} & set(taken)
    assert {port.split(":")[0] for port in published} == {"127.0.0.1"}


def test_the_learner_waits_for_every_teacher_and_is_told_where_they_are():
    told = ClientSettings(teacher=COMPOSE["learner"]["environment"]["PRECEPTOR_CLIENT_TEACHER"]).teacher
    assert told == "teacher-large:50051,teacher-math:50051,teacher-code:50051"
    assert COMPOSE["learner"]["depends_on"].keys() == TEACHERS.keys()
    assert COMPOSE["teacher"] == {"deploy": {"replicas": 0}}


def test_replicas_share_one_name_on_the_network_and_have_gpus_of_their_own(tmp_path):
    text = "teachers: {a: {folder: models/a, engine: vllm, gpus: [4, 5, 6, 7], tensor_parallel_size: 2, replicas: 2}}"
    services = rendered(tmp_path, text)
    both = [services[f"teacher-a-{number}"] for number in (0, 1)]
    assert [one["networks"]["default"]["aliases"] for one in both] == [["teacher-a"]] * 2
    devices = [one["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] for one in both]
    assert devices == [["4", "5"], ["6", "7"]]
    assert services["learner"]["environment"]["PRECEPTOR_CLIENT_TEACHER"] == "teacher-a:50051"
    assert len({one["ports"][0] for one in both}) == 2


def test_a_teacher_behind_an_api_takes_its_key_from_a_file_of_variables_and_nobody_else_does(tmp_path):
    judge = "{engine: api, base_url: 'https://provider.example/v1', model: m, api_key_env: PROVIDER_KEY}"
    services = rendered(tmp_path, f"teachers: {{judge: {judge}, a: {{folder: models/a}}}}")
    assert services["teacher-judge"]["env_file"] == ["${TEACHERS_ENV:-./teachers.env}"]
    assert "env_file" not in services["teacher-a"]
    assert "deploy" not in services["teacher-a"]
    assert services["teacher-a"]["image"] == "preceptor-teacher"


def test_a_model_of_a_hub_comes_from_the_hosts_cache_and_is_not_fetched_here(tmp_path):
    services = rendered(tmp_path, f"teachers: {{a: {{hub: 'owner/model@{'a' * 40}'}}}}")
    assert services["teacher-a"]["environment"]["HF_HOME"] == "/hub"
    assert "${HF_HOME:-~/.cache/huggingface}:/hub:ro" in services["teacher-a"]["volumes"]


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("teachers: {a: {folder: ../elsewhere}}", "teachers.a.folder"),
        ("teachers: {a: {folder: /data/a}}", "teachers.a.folder"),
        ("teachers: {a: {folder: models/a, replicas: 2}, a-0: {folder: models/b}}", "teachers.a-0"),
        ("teachers: {a: {hub: owner/model@main}}", "teachers.a.hub"),
        ("teachers: {a: {engine: discriminator, folder: models/a, state_folder: a}}", "teachers.a.engine"),
    ],
)
def test_what_a_container_could_not_have_is_refused_by_field(tmp_path, text, field):
    with pytest.raises(ConfigurationError) as refused:
        rendered(tmp_path, text)
    assert refused.value.field == field


def test_a_file_outside_the_project_cannot_be_mounted_by_a_relative_path(tmp_path):
    with pytest.raises(ConfigurationError):
        seen_from(tmp_path / "teachers.yaml", ROOT)


def test_the_example_uses_arguments_that_vllm_has():
    for spec in read_teachers(EXAMPLE):
        assert isinstance(spec, TeacherSpec)
        ours = {"name", "folder", "dtype", "threads", "max_topk", "max_candidates_per_row", "max_samples"}
        assert spec.engine.options.keys() - ours <= written_arguments()


def compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, timeout=30, check=False).returncode == 0:
            return command
    return None


def test_compose_takes_the_rendered_file_beside_the_other_one(tmp_path):
    command = compose_command()
    if command is None:
        pytest.skip("needs docker compose")
    files = ["--file", "docker-compose.yml", "--file", str(RENDERED.relative_to(ROOT))]
    environ = {**os.environ, "MODELS_DIR": str(tmp_path)}
    found = subprocess.run(
        [*command, *files, "config"], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    services = yaml.safe_load(found.stdout)["services"]
    assert services.keys() >= TEACHERS.keys() | {"queue", "rollout", "student", "secrets"}
    assert services["teacher"]["deploy"]["replicas"] == 0
    assert services["teacher-math"]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == ["2"]
