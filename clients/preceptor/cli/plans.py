"""What `learn --estimate` and `doctor --plan` print."""

from __future__ import annotations

from pathlib import Path

from preceptor.cli.output import print_table, say
from preceptor.config import ClientSettings
from preceptor.errors import PreceptorError
from preceptor.learner import RunFolder, RunPlan
from preceptor.planning import HEADER, Fit, Part, estimate_run, fits_of, observed, planned_parts, read_prices

GIB = 1 << 30
MIB = 1 << 20


def print_estimate(plan: RunPlan, settings: ClientSettings, config: Path | None, runs: Path, like: str | None) -> None:
    """Before the first call: nothing is asked of any service, nothing is loaded."""
    seen = observed(RunFolder.of(runs, like).told(), like) if like else None
    estimate = estimate_run(plan, read_prices(settings.prices_file), seen)
    print_table(HEADER, [line.row for line in estimate.lines()])
    say("")
    try:
        print_parts(planned_parts(plan, config))
    except PreceptorError as error:
        say(f"memory: unknown, {error.message}")


def print_parts(parts: list[Part]) -> list[Fit]:
    """The parts, then each device with what it has."""
    rows = [(part.service, part.device, part.what, _size(part.memory_bytes.low), _size(part.memory_bytes.high)) for part in parts]
    print_table(("service", "device", "what", "at least", "at most"), rows)
    say("")
    fits = fits_of(parts)
    found = [
        (one.device, _size(one.needed_bytes.low), _size(one.needed_bytes.high), _known(one.free_bytes), one.verdict)
        for one in fits
    ]
    print_table(("device", "at least", "at most", "free here", ""), found)
    return fits


def _known(size: int | None) -> str:
    return "unknown" if size is None else _size(size)


def _size(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"
