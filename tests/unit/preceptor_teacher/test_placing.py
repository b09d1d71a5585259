"""Which GPUs a file gives to whom, and what a file cannot promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError
from preceptor_serving.vllm.arguments import written_arguments
from preceptor_teacher.catalog import TeacherSpec, read_teachers, teachers_of
from preceptor_teacher.options import OPTIONS, known_keys


def file_of(folder: Path, **teachers: object) -> Path:
    path = folder / "teachers.yaml"
    path.write_text(yaml.safe_dump({"teachers": teachers}, sort_keys=False))
    return path


def vllm(**options: object) -> dict[str, object]:
    return {"folder": "m", "engine": "vllm", **options}


def options_of(path: Path) -> dict[str, Any]:
    return {spec.name: spec.engine.options for spec in read_teachers(path) if isinstance(spec, TeacherSpec)}


def seen(path: Path, **settings: Any) -> dict[str, str | None]:
    specs = teachers_of(TeacherSettings(teachers_file=path, **settings))
    return {spec.name: spec.engine.environ.get("CUDA_VISIBLE_DEVICES") for spec in specs if isinstance(spec, TeacherSpec)}


def test_each_replica_sees_its_own_gpus_in_the_order_of_the_list(tmp_path):
    path = file_of(tmp_path, wide=vllm(gpus=[7, 1, 4, 0], tensor_parallel_size=2, replicas=2), small={"folder": "m", "gpus": [3]})
    assert seen(path) == {"wide": "7,1", "small": "3"}
    assert seen(path, replica=1) == {"wide": "4,0"}
    assert seen(path, gpus_from="container") == {"wide": None, "small": None}


def test_stages_times_ranks_are_the_gpus_of_a_replica(tmp_path):
    path = file_of(tmp_path, wide=vllm(gpus=[0, 1, 2, 3], tensor_parallel_size=2, pipeline_parallel_size=2))
    assert seen(path) == {"wide": "0,1,2,3"}


def test_an_hf_teacher_with_a_gpu_runs_on_it_without_further_words(tmp_path):
    assert options_of(file_of(tmp_path, a={"folder": "m", "gpus": [2]}))["a"]["device"] == "cuda"


def test_without_gpus_nothing_is_placed(tmp_path):
    path = file_of(tmp_path, a={"folder": "m", "device": "cuda:1"}, b=vllm(tensor_parallel_size=2))
    assert seen(path) == {"a": None, "b": None}
    assert [options.get("device") for options in options_of(path).values()] == ["cuda:1", None]


def test_shares_that_fit_share_a_gpu(tmp_path):
    third = {"gpu_memory_utilization": 0.3}
    path = file_of(tmp_path, a=vllm(gpus=[0], **third), b=vllm(gpus=[0], **third), c=vllm(gpus=[0], gpu_memory_utilization=0.4))
    assert seen(path) == {"a": "0", "b": "0", "c": "0"}


@pytest.mark.parametrize(
    ("teachers", "field", "value", "limit"),
    [
        ({"a": vllm(gpus=[0, 1])}, "teachers.a.gpus", "2 GPUs", "1: tensor_parallel_size x pipeline_parallel_size = 1"),
        ({"a": vllm(gpus=[0], tensor_parallel_size=2)}, "teachers.a.gpus", "1 GPUs", "2: "),
        ({"a": vllm(gpus=[0, 1, 2], replicas=2, tensor_parallel_size=2)}, "teachers.a.gpus", "3 GPUs", "for each of 2 replicas"),
        ({"a": {"folder": "m", "gpus": [0, 1]}}, "teachers.a.gpus", "2 GPUs", "1: one GPU"),
        ({"a": vllm(gpus=[0]), "b": vllm(gpus=[0])}, "teachers.a.gpus", 0, "one teacher for each GPU"),
        (
            {"a": vllm(gpus=[5], gpu_memory_utilization=0.5), "b": {"folder": "m", "gpus": [5]}},
            "teachers.b.gpus",
            5,
            "one teacher",
        ),
        (
            {"a": vllm(gpus=[0], gpu_memory_utilization=0.6), "b": vllm(gpus=[0], gpu_memory_utilization=0.5)},
            "teachers.b.gpu_memory_utilization",
            1.1,
            "<= 1 over all teachers of GPU 0",
        ),
        (
            {"a": vllm(gpus=[0, 0], replicas=2, gpu_memory_utilization=0.6)},
            "teachers.a.gpu_memory_utilization",
            1.2,
            "<= 1 over all teachers of GPU 0",
        ),
        ({"a": vllm(gpus=[0, 0], replicas=2)}, "teachers.a.gpus", [0, 0], "each once"),
        ({"a": vllm(gpus=[0], gpu_memory_utilization=1.5)}, "teachers.a.gpu_memory_utilization", 1.5, "> 0 and <= 1"),
        ({"a": vllm(gpus=[-1])}, "teachers.a.gpus", -1, ">= 0"),
        ({"a": vllm(gpus="0")}, "teachers.a.gpus", "0", "a list"),
        ({"a": vllm(gpus=[])}, "teachers.a.gpus", [], "a list"),
        ({"a": vllm(gpus=[True])}, "teachers.a.gpus", True, ">= 0"),
        ({"a": vllm(replicas=0)}, "teachers.a.replicas", 0, ">= 1"),
        ({"a": vllm(gpus=[0], tensor_parallel_size="2")}, "teachers.a.tensor_parallel_size", "2", ">= 1"),
        ({"a": {"engine": "fake", "gpus": [0]}}, "teachers.a.gpus", [0], "hf and vllm"),
        ({"a": {"folder": "m", "gpus": [0], "device": "cuda:0"}}, "teachers.a.device", "cuda:0", "cuda"),
        ({"a": {"folder": "m", "aliases": ["b"]}, "b": {"folder": "m"}}, "teachers.b", "b", "each used once"),
        ({"b": {"folder": "m"}, "a": {"folder": "m", "aliases": ["b"]}}, "teachers.a.aliases", "b", "each used once"),
        ({"a": {"engine": "student"}}, "teachers.a.engine", "student", "hf | vllm"),
    ],
)
def test_what_cannot_be_is_refused_with_field_value_and_limit(tmp_path, teachers, field, value, limit):
    with pytest.raises(ConfigurationError) as refused:
        read_teachers(file_of(tmp_path, **teachers))
    assert (refused.value.field, refused.value.value) == (field, str(value))
    assert limit in str(refused.value.limit)


@pytest.mark.parametrize(
    ("options", "key", "meant"),
    [
        ({"folder": "m", "dtyp": "f32"}, "dtyp", "dtype"),
        ({"folder": "m", "gpu": [0]}, "gpu", "gpus"),
        ({"folder": "m", "alias": ["b"]}, "alias", "aliases"),
        (vllm(tensor_paralel_size=2), "tensor_paralel_size", "tensor_parallel_size"),
        (vllm(max_top_k=2), "max_top_k", "max_topk"),
        ({"engine": "fake", "tokeniser_size": 3}, "tokeniser_size", "tokenizer_size"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(tmp_path, options, key, meant):
    with pytest.raises(ConfigurationError) as refused:
        read_teachers(file_of(tmp_path, a=options))
    assert refused.value.field == f"teachers.a.{key}"
    assert meant in refused.value.hint


def test_what_vllm_could_and_a_teacher_must_not_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ConfigurationError, match="replicas") as refused:
        read_teachers(file_of(tmp_path, a=vllm(data_parallel_size=2)))
    assert refused.value.field == "teachers.a.data_parallel_size"


@pytest.mark.parametrize("start", ["data_parallel_", "nnodes", "node_rank", "master_", "prefill_context_parallel_"])
def test_workers_elsewhere_and_parts_of_a_sequence_are_refused_by_every_name_that_vllm_has_for_them(tmp_path, start):
    names = [name for name in written_arguments() if name.startswith(start)]
    assert names
    for name in names:
        with pytest.raises(ConfigurationError, match="cannot be set") as refused:
            read_teachers(file_of(tmp_path, a=vllm(**{name: 2})))
        assert refused.value.field == f"teachers.a.{name}"


@pytest.mark.parametrize("engine", OPTIONS)
def test_every_engine_tells_its_options(engine):
    assert "name" not in known_keys(engine) or engine == "fake"
    options = {"hf": "device", "vllm": "pipeline_parallel_size", "fake": "seed", "echo": "dialect"}
    assert options[engine] in known_keys(engine)


@pytest.mark.parametrize(
    ("settings", "field"),
    [({"only": "a,c"}, "only"), ({"replica": 2}, "replica"), ({"only": "b", "replica": 1}, "replica")],
)
def test_a_process_that_would_serve_nobody_or_a_stranger_does_not_start(tmp_path, settings, field):
    path = file_of(tmp_path, a={"folder": "m", "replicas": 2}, b={"folder": "m"})
    with pytest.raises(ConfigurationError) as refused:
        teachers_of(TeacherSettings(teachers_file=path, **settings))
    assert refused.value.field == field


def test_only_picks_in_the_order_of_the_file(tmp_path):
    path = file_of(tmp_path, a={"folder": "m"}, b={"folder": "m"}, c={"folder": "m"})
    assert list(seen(path, only="c, a")) == ["a", "c"]
