"""`python -m preceptor_teacher.testing --model DIR --port N`: serves the stand-in provider until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from preceptor.errors import ConfigurationError, PreceptorError
from preceptor_serving.lifecycle.signals import stop_signals
from preceptor_teacher.testing.faults import FAULTS, FaultPlan
from preceptor_teacher.testing.provider import standing_in


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = _parser().parse_args(arguments)
    key = os.environ.get(given.api_key_env, "") if given.api_key_env else None
    try:
        if key == "":
            raise ConfigurationError(f"{given.api_key_env} holds no key", field="api-key-env", value=given.api_key_env)
        asyncio.run(_serve(given, FaultPlan(dict(given.fault), seed=given.seed), key))
    except PreceptorError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 2
    return 0


async def _serve(given: argparse.Namespace, faults: FaultPlan, key: str | None) -> None:
    asked = asyncio.get_running_loop().create_future()
    with stop_signals(asked.set_result):
        how = {"name": given.name, "port": given.port, "plays_judge": not given.model_judges}
        async with standing_in(given.model, faults=faults, api_key=key, **how) as served:
            sys.stdout.write(f"{served.provider.name} at {served.base_url}\n")
            sys.stdout.flush()
            await asked


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m preceptor_teacher.testing", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="folder of the model that answers")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 takes any free one")
    parser.add_argument("--name", default="", help="what the model is called; unset: the name of its folder")
    parser.add_argument("--api-key-env", default="", metavar="NAME", help="variable with the key that requests must carry")
    parser.add_argument(
        "--fault",
        type=_share,
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"a share of requests that goes wrong, such as server_error=0.1: {', '.join(FAULTS)}",
    )
    parser.add_argument("--model-judges", action="store_true", help="the model itself answers those who ask for a verdict")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    return parser


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.partition("=")
    return name, float(share)


if __name__ == "__main__":
    sys.exit(main())
