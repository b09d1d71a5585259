"""The process in which a discriminator lives: JSON lines in, JSON lines out, one at a time, until its input ends.

It has the state folder for itself. Whoever started it kills it when a line takes too long, and starts it again; nothing that it
said is lost by that.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from preceptor.errors import ConfigurationError, Conflict, EngineFailed, PreceptorError, TooLarge
from preceptor.limits import check_name
from preceptor_serving.durable import make_folder
from preceptor_serving.models.folder import folder_sha256
from preceptor_teacher.discriminator.groups import AskedGroup
from preceptor_teacher.discriminator.jobs import JobDiscriminator, Keeping
from preceptor_teacher.discriminator.learning import Trainer
from preceptor_teacher.discriminator.options import DiscriminatorOptions
from preceptor_teacher.discriminator.params import DiscriminatorParams
from preceptor_teacher.discriminator.scorer import Scorer
from preceptor_teacher.line_child import error_line

LOCK, LOCK_S, LOOK_S = ".lock", 10.0, 0.1  # no tenant's folder begins with a dot


class Jobs:
    """The discriminators of all jobs, the last used ones in memory."""

    def __init__(self, options: DiscriminatorOptions) -> None:
        self._options = options
        torch.set_num_threads(options.threads)
        Scorer(options.folder, options.device, options.max_sequence_tokens)  # refuses now what could not be used later
        self._base_sha256 = folder_sha256(options.folder).hex()
        self._live: OrderedDict[tuple[str, str], JobDiscriminator] = OrderedDict()

    def grade(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The scores of one group, and where its job stands."""
        key = (check_name(asked["tenant"], "tenant"), check_name(asked["job"], "job"))
        job = self._job(key, DiscriminatorParams.model_validate(asked["params"]))
        try:
            answer = job.grade(AskedGroup.from_json(asked["group"]))
        except TooLarge:
            raise  # nothing was written and nothing has moved
        except BaseException:
            del self._live[key]  # what is on disk is whole
            raise
        return {"answer": asdict(answer), "standing": asdict(job.standing)}

    def _job(self, key: tuple[str, str], params: DiscriminatorParams) -> JobDiscriminator:
        if key in self._live:
            self._live[key].check(params)
        else:
            while len(self._live) >= self._options.jobs_in_memory:
                self._live.popitem(last=False)
            self._live[key] = self._opened(key, params)
        self._live.move_to_end(key)
        return self._live[key]

    def _opened(self, key: tuple[str, str], params: DiscriminatorParams) -> JobDiscriminator:
        options = self._options
        scorer = Scorer(options.folder, options.device, options.max_sequence_tokens)
        trainer = Trainer(scorer, params.learning_rate, options.texts_at_once)
        keeping = Keeping(options.checkpoint_every_updates, options.keep_checkpoints)
        return JobDiscriminator(options.state_folder.joinpath(*key), trainer, params, keeping, self._base_sha256)


def owned(folder: Path) -> int:
    """A lock on the folder that ends with this process; waits a little for one that is just ending."""
    try:
        make_folder(folder)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"nothing can be kept in state_folder: {error.strerror}",
            field="state_folder",
            value=str(folder),
            hint="a folder that this process may write to",
        ) from None
    until_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise Conflict("another service has this folder", field="state_folder", value=str(folder)) from None
            time.sleep(LOOK_S)
        else:
            return descriptor


def main() -> None:
    """Says that it is ready, then answers."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # what libraries print is no answer
    options = DiscriminatorOptions.model_validate_json(sys.argv[1])
    try:
        owned(options.state_folder)
        jobs = Jobs(options)
    except PreceptorError as error:
        _say(answers, error_line(error))
        return
    _say(answers, {"ready": True})
    for line in sys.stdin:
        _say(answers, _answer(jobs, line))


def _answer(jobs: Jobs, line: str) -> Mapping[str, Any]:
    try:
        return jobs.grade(json.loads(line))
    except PreceptorError as error:
        return error_line(error)
    except Exception as error:  # such as a device without memory: told by name, and the job is read from disk again
        return error_line(EngineFailed(f"the discriminator failed: {type(error).__name__}: {error}", field="grader"))


def _say(answers: Any, said: Mapping[str, Any]) -> None:
    answers.write(json.dumps(said) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
