"""Which GPUs the teachers of a file take: `gpus` and `replicas` of an entry, and whether all of them fit together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from preceptor.errors import ConfigurationError

VISIBLE = "CUDA_VISIBLE_DEVICES"
WHOLE = 1.0
SHARE = "gpu_memory_utilization"
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size")
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Placement:
    """GPUs by the machine's own numbers, replica after replica; none: the engine's own options say where it runs."""

    gpus: tuple[int, ...] = ()
    replicas: int = 1
    share: float | None = None
    """Of each GPU's memory, where the entry states it; unstated: all of it."""

    def gpus_of(self, replica: int) -> tuple[int, ...]:
        """Those of one replica."""
        each = len(self.gpus) // self.replicas
        return self.gpus[replica * each : (replica + 1) * each]

    def environ_of(self, replica: int) -> dict[str, str]:
        """What lets an engine's process see its own GPUs and no others."""
        return {VISIBLE: ",".join(map(str, self.gpus_of(replica)))} if self.gpus else {}


UNPLACED = Placement()


def take_placement(name: str, engine: str, options: dict[str, Any]) -> Placement:
    """Takes `gpus` and `replicas` out of an entry's options; what cannot be is refused by field, value and limit."""
    where = f"teachers.{name}"
    replicas = _whole(options.pop("replicas", 1), f"{where}.replicas", least=1)
    gpus = options.pop("gpus", None)
    if gpus is None:
        return Placement(replicas=replicas)
    if not isinstance(gpus, list) or not gpus:
        _refuse(f"{where}.gpus", gpus, "a list of the machine's GPUs by number, such as [0, 1]", "these are no GPUs")
    placement = Placement(tuple(_whole(one, f"{where}.gpus", least=0) for one in gpus), replicas, _share(where, engine, options))
    if len(set(placement.gpus)) < len(placement.gpus) and placement.share is None:
        _refuse(f"{where}.gpus", gpus, "each once", f"a GPU is named twice, and no {SHARE} says how it is shared")
    _check_count(where, engine, options, placement)
    _place_hf(where, engine, options)
    return placement


def check_gpus(placements: Mapping[str, Placement]) -> None:
    """Returns where no GPU is promised twice: the stated shares of all who use one are at most the whole of it."""
    users: dict[int, list[str]] = defaultdict(list)
    for name, placement in placements.items():
        for gpu in placement.gpus:
            users[gpu].append(name)
    for gpu, names in sorted(users.items()):
        if len(names) > 1:
            _check_shared(gpu, names, placements)


def _check_shared(gpu: int, names: Iterable[str], placements: Mapping[str, Placement]) -> None:
    names = list(names)
    several = " and ".join(dict.fromkeys(names))
    for name in names:
        if placements[name].share is None:
            limit = f"one teacher for each GPU, or {SHARE} of every teacher on it"
            _refuse(f"teachers.{name}.gpus", gpu, limit, f"GPU {gpu} is used by {several}, and {name} takes the whole of it")
    total = sum(placements[name].share or WHOLE for name in names)
    if total > WHOLE + ROUNDING:
        field = f"teachers.{names[-1]}.{SHARE}"
        _refuse(
            field, round(total, 6), f"<= {WHOLE:g} over all teachers of GPU {gpu}", f"{several} promise more of it than there is"
        )


def _check_count(where: str, engine: str, options: Mapping[str, Any], placement: Placement) -> None:
    found, each = len(placement.gpus), 1
    if engine == "vllm":
        for size in PARALLEL:
            each *= _whole(options.get(size, 1), f"{where}.{size}", least=1)
    elif engine != "hf":
        _refuse(f"{where}.gpus", list(placement.gpus), "engines hf and vllm", f"the {engine} engine runs on no GPU")
    if found != each * placement.replicas:
        of = " x ".join(PARALLEL) if engine == "vllm" else "one GPU"
        limit = f"{each * placement.replicas}: {of} = {each} for each of {placement.replicas} replicas"
        _refuse(f"{where}.gpus", f"{found} GPUs", limit, "the engine uses another number of GPUs")


def _place_hf(where: str, engine: str, options: dict[str, Any]) -> None:
    """The engine's process sees one GPU, whichever of the machine's it is."""
    if engine == "hf" and options.setdefault("device", "cuda") != "cuda":
        _refuse(f"{where}.device", options["device"], "cuda, or none beside gpus", "gpus says already which one it is")


def _share(where: str, engine: str, options: Mapping[str, Any]) -> float | None:
    share = options.get(SHARE) if engine == "vllm" else None
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= WHOLE:
        _refuse(f"{where}.{SHARE}", share, "> 0 and <= 1", "this is no share of a GPU's memory")
    return float(share)


def _whole(value: object, field: str, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        _refuse(field, value, f">= {least}", "a whole number is wanted")
    return value


def _refuse(field: str, value: object, limit: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{field}: {why}", field=field, value=value, limit=limit)
