"""Trackers by name."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

from preceptor.errors import ConfigurationError
from preceptor.learner.events import Event, Watch
from preceptor.learner.trackers.protocol import Run, Tracker, scalars_of
from preceptor.learner.trackers.tensorboard import TensorBoard
from preceptor.learner.trackers.trackio import Trackio
from preceptor.learner.trackers.wandb import WeightsAndBiases
from preceptor.suggest import did_you_mean

TRACKERS: dict[str, Callable[[Run], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}
"""Name -> how it is opened.

To add one, write a class with `log` and `close` in a module of its own that imports its package when it is opened, with
`preceptor.extras.require`, give the package an extra of that name in pyproject.toml, and add a line here.
"""


def open_tracker(name: str, run: Run) -> Tracker:
    """The tracker of that name; an unknown name is refused, a missing package names its pip command."""
    if name not in TRACKERS:
        raise ConfigurationError(
            f"there is no tracker {name!r}",
            field="tracker",
            value=name,
            limit=" | ".join(TRACKERS),
            hint=did_you_mean(name, TRACKERS),
        )
    return TRACKERS[name](run)


@contextmanager
def tracking(names: Sequence[str], run: Run, watch: Watch) -> Generator[Watch]:
    """The watch, and every tracker beside it. All are opened before anything is started."""
    with ExitStack() as stack:
        trackers = [open_tracker(name, run) for name in dict.fromkeys(names)]
        for tracker in trackers:
            stack.callback(tracker.close)

        def tell(event: Event) -> None:
            watch(event)
            if figures := scalars_of(event):
                for tracker in trackers:
                    tracker.log(int(event["step"]), figures)

        yield tell
