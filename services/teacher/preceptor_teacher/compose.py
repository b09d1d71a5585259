"""A teachers file as services for compose: one for each replica, beside the queue and the secrets of docker-compose.yml.

The text depends on the file alone, so that a rendered file can be committed and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from preceptor.config.settings import GRPC_PORTS, REST_PORTS
from preceptor.errors import ConfigurationError
from preceptor_teacher.catalog import Entry, TeacherSpec, read_teachers
from preceptor_teacher.discriminator.served import DiscriminatorSpec
from preceptor_teacher.judges import JudgeSpec

GRPC, REST = GRPC_PORTS["teacher"], REST_PORTS["teacher"]
FIRST_GRPC, FIRST_REST = 50061, 8011  # of the host, beside those of docker-compose.yml
FILE, MODELS, HUB = "/teachers.yaml", PurePosixPath("/models"), "/hub"
WIDTH = 130
IMAGES = {"vllm": "teacher-vllm"}
"""Engine -> Dockerfile of deploy/; the others are in the image of the teacher service."""
LOAD_S = 1800  # of a large model from a slow disk
CONTAINED: Mapping[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "restart": "unless-stopped",
    "stop_grace_period": "75s",
    "depends_on": {
        "secrets": {"condition": "service_completed_successfully"},
        "queue": {"condition": "service_healthy"},
    },
}


class _Plain(yaml.SafeDumper):
    """Writes equal parts out instead of referring to each other."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Replica:
    """One service to be."""

    spec: Entry
    number: int
    of: int

    @property
    def host(self) -> str:
        """The name that all replicas of its teacher share on the project's network."""
        return f"teacher-{self.spec.name.lower()}"

    @property
    def service(self) -> str:
        return self.host if self.of == 1 else f"{self.host}-{self.number}"


def render(path: Path, file: str) -> str:
    """The compose file of the teachers in `path`, which docker-compose.yml sees as `file`."""
    specs = read_teachers(path, root=Path(FILE).parent)
    replicas = [*_replicas(specs)]
    _check_names(replicas)
    services: dict[str, Any] = {"teacher": {"deploy": {"replicas": 0}}}
    services |= {one.service: _service(one, file, index) for index, one in enumerate(replicas)}
    services["learner"] = {
        "depends_on": {one.service: {"condition": "service_healthy"} for one in replicas},
        "environment": {"PRECEPTOR_CLIENT_TEACHER": addresses(specs)},
    }
    return _header(file) + yaml.dump({"services": services}, Dumper=_Plain, sort_keys=False, width=WIDTH)


def addresses(specs: Sequence[Entry]) -> str:
    """What a client inside the project is told: one name for each teacher, whatever its replicas."""
    return ",".join(dict.fromkeys(f"{one.host}:{GRPC}" for one in _replicas(specs)))


def _header(file: str) -> str:
    return (
        f"# Written by `preceptor teachers render {file}`; change that file and write this one again.\n"
        "#   docker compose --file docker-compose.yml --file THIS_FILE up --wait\n"
        "# It stands beside docker-compose.yml, whose queue and secrets its teachers use and whose one teacher it leaves out.\n"
    )


def _replicas(specs: Sequence[Entry]) -> Iterator[Replica]:
    for spec in specs:
        if isinstance(spec, DiscriminatorSpec):
            raise ConfigurationError(
                "a discriminator needs its writer in the same service and a folder that it writes: it is not rendered",
                field=f"teachers.{spec.name}.engine", value="discriminator", limit="engines that serve alone",
                hint="put it with its writer into a file of its own, for `preceptor serve teacher --teachers-file`",
            )  # fmt: skip
        count = spec.placement.replicas if isinstance(spec, TeacherSpec) else 1
        yield from (Replica(spec, number, count) for number in range(count))


def _check_names(replicas: Sequence[Replica]) -> None:
    taken: dict[str, str] = {}
    for one in replicas:
        for name in dict.fromkeys((one.service, one.host)):
            owner = taken.setdefault(name, one.spec.name)
            if owner != one.spec.name:
                field, limit = f"teachers.{one.spec.name}", f"another name than {owner} and its replicas make"
                raise ConfigurationError(
                    f"{owner} and {one.spec.name} would both be {name}", field=field, value=name, limit=limit
                )


def _service(one: Replica, file: str, index: int) -> dict[str, Any]:
    image = IMAGES.get(_engine(one.spec), "teacher")
    published = ["weights:/weights:ro"] if _engine(one.spec) == "hf" else []  # copies of a student that teach it
    volumes = ["secrets-services:/secrets:ro", f"{file}:{FILE}:ro", *published, *_weights(one.spec)]
    found: dict[str, Any] = {
        "image": f"preceptor-{image}",
        "build": {"context": ".", "dockerfile": f"deploy/{image}.Dockerfile", "args": {"PIP_ARGS": "${PIP_ARGS:-}"}},
        "command": ["--teachers-file", FILE, "--only", one.spec.name, "--gpus-from", "container"],
        **CONTAINED,
        "tmpfs": ["/tmp:exec" if _gpus(one) else "/tmp"],  # noqa: S108  vLLM loads kernels that it has compiled there
        "environment": _environment(one.spec),
        "networks": {"default": {"aliases": [one.host]}},
        "ports": [f"127.0.0.1:{FIRST_GRPC + index}:{GRPC}", f"127.0.0.1:{FIRST_REST + index}:{REST}"],
        "volumes": volumes,
        "healthcheck": _healthcheck(),
    }
    if isinstance(one.spec, JudgeSpec) and one.spec.options.api_key_env:
        found["env_file"] = ["${TEACHERS_ENV:-./teachers.env}"]  # the provider's key, which stands in no other file
    return found | _gpus(one)


def _engine(spec: Entry) -> str:
    return spec.engine.engine if isinstance(spec, TeacherSpec) else "api"


def _environment(spec: Entry) -> dict[str, str]:
    hub = {"HF_HOME": HUB} if isinstance(spec, TeacherSpec) and _from_hub(spec) else {}
    return {
        "PRECEPTOR_REDIS_URL": "redis://preceptor@queue:6379/0",
        "PRECEPTOR_REDIS_PASSWORD_FILE": "/secrets/redis.password",
        "PRECEPTOR_TEACHER_KEY_FILE": "/secrets/keys.yaml",
        **hub,
    }


def _healthcheck() -> dict[str, Any]:
    probe = ["CMD", "python3", "/opt/preceptor/ready.py", str(REST)]
    return {"test": probe, "interval": "10s", "timeout": "5s", "start_period": f"{LOAD_S}s", "retries": 3}


def _gpus(one: Replica) -> dict[str, Any]:
    gpus = one.spec.placement.gpus_of(one.number) if isinstance(one.spec, TeacherSpec) else ()
    if not gpus:
        return {}
    device = {"driver": "nvidia", "device_ids": [str(gpu) for gpu in gpus], "capabilities": ["gpu"]}
    return {
        "ulimits": {"memlock": -1, "stack": 67_108_864, "nofile": {"soft": 1_048_576, "hard": 1_048_576}},
        "shm_size": "8gb",  # the workers of one model pass tensors through it
        "deploy": {"resources": {"reservations": {"devices": [device]}}},
    }


def _weights(spec: Entry) -> list[str]:
    """The model's place in the container. A folder beside the file, `models/...`, is there under the same path."""
    if not isinstance(spec, TeacherSpec) or "folder" not in spec.engine.options:
        return []
    if _from_hub(spec):
        return ["${HF_HOME:-~/.cache/huggingface}:" + HUB + ":ro"]
    _check_folder(spec)
    return ["${MODELS_DIR:?the folder of your models}:" + f"{MODELS}:ro"]


def _from_hub(spec: TeacherSpec) -> bool:
    """An id, which stands where a folder would: the file was read for another machine."""
    return "folder" in spec.engine.options and not PurePosixPath(str(spec.engine.options["folder"])).is_absolute()


def _check_folder(spec: TeacherSpec) -> None:
    folder = PurePosixPath(str(spec.engine.options["folder"]))
    if ".." in folder.parts or not folder.is_relative_to(MODELS):
        field, limit = f"teachers.{spec.name}.folder", f"a folder under {MODELS}, or models/ beside the file"
        raise ConfigurationError("a container would not have this folder", field=field, value=str(folder), limit=limit)


def seen_from(file: Path, project: Path) -> str:
    """The teachers file as the compose file names it."""
    try:
        return f"./{file.resolve().relative_to(project.resolve()).as_posix()}"
    except ValueError:
        limit = f"a file under {project.resolve()}"
        raise ConfigurationError("the teachers file is elsewhere", field="file", value=str(file), limit=limit) from None
