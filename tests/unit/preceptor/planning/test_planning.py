"""Estimates: sizes are those of real models, and a real run spends what was said beforehand."""

from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path

import pytest

from preceptor.cli import run
from preceptor.errors import ConfigurationError, Unsupported
from preceptor.planning import Fit, Part, Range, estimate_run, fits_of, observed, read_prices, shape_of_folder
from preceptor.planning.like import Observed
from preceptor.planning.memory import Placed, parts_of
from preceptor.planning.shape import ModelShape, shape_of
from tests.unit.preceptor.learner.world import JUDGE, RUN, World, plan, recipe

ROOT = Path(__file__).parents[4]
PAIR = ROOT / "examples" / "tiny"
LLAMA = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 96, "vocab_size": 50}


def stored_parameters(folder: Path) -> int:
    """Counted in the file of weights itself."""
    data = (folder / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_the_size_of_a_model_follows_from_its_configuration(name: str) -> None:
    assert shape_of_folder(PAIR / name).parameters == stored_parameters(PAIR / name)


@pytest.mark.parametrize(
    ("changes", "config_class"),
    [
        ({"num_key_value_heads": 2, "tie_word_embeddings": True, "model_type": "llama"}, "LlamaConfig"),
        ({"num_key_value_heads": 2, "model_type": "qwen2"}, "Qwen2Config"),
        ({"num_key_value_heads": 2, "head_dim": 24, "model_type": "qwen3"}, "Qwen3Config"),
        (
            {"num_key_value_heads": 2, "model_type": "qwen3_moe", "num_experts": 4, "moe_intermediate_size": 32, "head_dim": 16,
             "num_experts_per_tok": 2, "decoder_sparse_step": 1},
            "Qwen3MoeConfig",
        ),
    ],
)  # fmt: skip
def test_sizes_are_those_that_transformers_builds(changes: dict[str, object], config_class: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = getattr(transformers, config_class)(**{**LLAMA, **changes})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    built = sum(one.numel() for one in model.parameters())
    assert shape_of(config.to_dict(), "config").parameters == built


def test_adapters_on_every_linear_layer_are_counted() -> None:
    peft, transformers, torch = map(pytest.importorskip, ("peft", "transformers", "torch"))
    config = transformers.LlamaConfig(**LLAMA, num_key_value_heads=2)
    with torch.device("meta"):
        model = peft.get_peft_model(
            transformers.AutoModelForCausalLM.from_config(config), peft.LoraConfig(r=4, target_modules="all-linear")
        )
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert shape_of(config.to_dict(), "config").adapter_parameters(4) == trained


def test_a_model_that_is_no_decoder_of_this_family_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba", "hidden_size": 8}))
    with pytest.raises(Unsupported, match="does not say"):
        shape_of_folder(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        shape_of_folder(tmp_path / "absent")


# ---------------------------------------------------------------- memory

SHAPE = ModelShape(hidden=1024, layers=10, heads=8, kv_heads=4, head_width=128, inner=4096, vocabulary=50_000, tied=True)


def student_bytes(**training: object) -> dict[str, Range]:
    raw = recipe() | {"training": training}
    placed = Placed("m", SHAPE)
    parts = parts_of(plan(raw), placed, placed, [placed], [], batch_tokens=100, max_versions=2)
    return {part.what: part.memory_bytes for part in parts if part.service == "student"}


def test_training_takes_sixteen_bytes_a_parameter_in_f32_and_eighteen_in_bf16() -> None:
    for precision, each in (("f32", 16), ("bf16", 18)):
        found = student_bytes(precision=precision)
        fixed = sum(size.low for what, size in found.items() if size.low == size.high)
        assert fixed == each * SHAPE.parameters


def test_adapters_take_a_fraction() -> None:
    lora, full = student_bytes(precision="bf16", lora={"rank": 8}), student_bytes(precision="bf16")
    assert lora["gradients"].high == lora["gradients"].low == 4 * SHAPE.adapter_parameters(8) < full["gradients"].high / 20
    some = student_bytes(precision="bf16", lora={"rank": 8, "target_modules": ["q_proj"]})
    assert (some["gradients"].low, some["gradients"].high) == (0, lora["gradients"].high), (
        "whose layers have the name is not known"
    )


def test_fits_are_told_by_device() -> None:
    parts = [
        Part("student", "cuda", "weights", Range(6, 8)), Part("rollout", "cuda", "weights", Range(1, 1)),
        Part("teacher", "cpu", "weights", Range(3, 4)), Part("teacher", "tpu", "weights", Range(3, 4)),
    ]  # fmt: skip
    fits = fits_of(parts, {"cuda": 8, "cpu": 4, "tpu": None}.get)
    assert [(one.device, one.verdict) for one in fits] == [("cuda", "may fit"), ("cpu", "fits"), ("tpu", "unknown")]
    assert Fit("cpu", Range(5, 6), 4).verdict == "does not fit"
    assert fits_of([Part("a", "cpu", "b", Range(1, 2))])[0].verdict in ("fits", "unknown"), "what this machine has"


# ---------------------------------------------------------------- work and cost


async def test_a_run_spends_what_was_said_before_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    estimate = estimate_run(world.plan, {})
    await world.run()
    steps = [event for event in world.events if event["event"] == "step"]
    spent = {name: sum(step["grading"][name] for step in steps) for name in ("calls", "prompt_tokens", "verdicts")}
    (graded,) = estimate.work.graded
    assert estimate.work.rollouts == sum(step["rollouts"] for step in steps) == spent["verdicts"]
    assert sum(step["tokens_generated"] for step in steps) in estimate.work.drawn
    assert sum(step["rows_scored"] for step in steps) in estimate.work.scored
    assert spent["calls"] in graded.asking.calls
    assert graded.model == JUDGE
    assert estimate.cost is None, "nobody said what it costs"
    assert any("no price" in line.why for line in estimate.lines())


async def test_an_earlier_run_narrows_everything_down(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run()
    like = observed(world.learner().folder.told(), RUN)
    wide, narrow = estimate_run(plan(steps=50), {}), estimate_run(plan(steps=50), {}, like)
    assert narrow.seconds is not None
    assert wide.seconds is None
    for before, after in (
        (wide.work.drawn, narrow.work.drawn),
        (wide.work.graded[0].asking.calls, narrow.work.graded[0].asking.calls),
    ):
        assert after.high - after.low < before.high - before.low
    assert like.asked is not None
    assert like.asked.prompt_tokens * 200 in narrow.work.graded[0].asking.prompt_tokens
    with pytest.raises(ConfigurationError, match="drawn nothing"):
        observed([], "empty")


def test_time_grows_with_what_is_drawn() -> None:
    like = Observed(10.0, 0.5)
    assert 0.5 * 1000 in like.seconds(Range(1000, 1000))


def test_prices_make_costs_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text(f"prices: {{{JUDGE}: {{prompt_usd_per_million: 2, completion_usd_per_million: 8}}}}")
    estimate = estimate_run(plan(), read_prices(table))
    (graded,) = estimate.work.graded
    assert estimate.cost is not None
    assert estimate.cost.high == pytest.approx(
        graded.asking.prompt_tokens.high * 2e-6 + graded.asking.completion_tokens.high * 8e-6
    )
    table.write_text("prices: {judge: {prompt_usd_per_milion: 2, completion_usd_per_million: 8}}")
    with pytest.raises(ConfigurationError, match="prompt_usd_per_milion"):
        read_prices(table)
    table.write_text("[]")
    with pytest.raises(ConfigurationError, match="no price table"):
        read_prices(table)


# ---------------------------------------------------------------- on the command line


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PRECEPTOR_TEACHER_MODEL", f"tiny-teacher={PAIR / 'teacher'}")
    monkeypatch.setenv("PRECEPTOR_ROLLOUT_MODEL", f"tiny={PAIR / 'student'}")
    monkeypatch.setenv("PRECEPTOR_STUDENT_MODEL", f"tiny={PAIR / 'student'}")


@pytest.mark.usefixtures("services")
def test_the_command_estimates_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text("prices: {tiny-judge: {prompt_usd_per_million: 2, completion_usd_per_million: 8}}")
    words = ["recipes/tiny-verbal.yaml", "--estimate", "--prices-file", str(table), "--runs", str(tmp_path / "runs")]
    assert run(["learn", *words]) == 0
    shown = dict(line.split("\t")[:2] for line in capsys.readouterr().out.splitlines() if line.count("\t") == 3)
    assert shown["rollouts"] == "5,120"
    assert shown["cost of tiny-judge"].startswith("$")
    assert not (tmp_path / "runs").exists()
    assert run(["learn", "recipes/tiny-verbal.yaml", "--like", "x"]) == 2


@pytest.mark.usefixtures("services")
def test_the_doctor_says_what_fits_and_what_it_cannot_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--plan", "recipes/tiny-reverse-kl.yaml"]) == 0
    assert "weights of tiny-teacher" in capsys.readouterr().out
    monkeypatch.setattr("preceptor.planning.machine.free_bytes", lambda _: 1000)
    assert run(["doctor", "--plan", "recipes/tiny-reverse-kl.yaml"]) == 1
    monkeypatch.delenv("PRECEPTOR_TEACHER_MODEL")
    assert run(["doctor", "--plan", "recipes/tiny-reverse-kl.yaml"]) == 2
    assert "tiny-teacher" in capsys.readouterr().err


@pytest.mark.usefixtures("services")
def test_the_doctor_counts_the_head_that_the_student_keeps_of_a_teacher_that_gives_states(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = (ROOT / "recipes/tiny-reverse-kl.yaml").read_text().replace("../examples", str(ROOT / "examples"))
    states = tmp_path / "states.yaml"
    states.write_text(re.sub(r"signal: .*", "signal: hidden", listed))
    shape = shape_of_folder(PAIR / "teacher")
    head = f"head of tiny-teacher\t{4 * shape.vocabulary * shape.hidden / 2**20:.1f} MiB"
    for path, there in ((states, True), (ROOT / "recipes/tiny-reverse-kl.yaml", False)):
        assert run(["doctor", "--plan", str(path)]) == 0
        assert (head in capsys.readouterr().out) is there


def test_teachers_of_a_file_are_found_by_their_aliases(
    services: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "teachers.yaml"
    entry = {"folder": str(PAIR / "teacher"), "aliases": ["tiny-teacher"], "dtype": "bf16", "device": "cuda:7"}
    file.write_text(json.dumps({"teachers": {"big": entry, "judge": {"engine": "api"}}}))
    monkeypatch.delenv("PRECEPTOR_TEACHER_MODEL")
    monkeypatch.setenv("PRECEPTOR_TEACHER_TEACHERS_FILE", str(file))
    assert run(["doctor", "--plan", "recipes/tiny-reverse-kl.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "weights of big\t1.8 MiB" in shown
    assert "cuda:7" in shown
