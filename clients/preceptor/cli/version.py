"""`preceptor version`: what is installed, for bug reports."""

from __future__ import annotations

import platform

from preceptor._version import __version__
from preceptor.cli.options import Json
from preceptor.cli.output import print_json, print_table
from preceptor.extras import base_parts, installed_version


def version(as_json: Json = False) -> None:
    """The version of Preceptor and of what it stands on."""
    versions = {"preceptor": __version__, "python": platform.python_version()}
    versions |= {name: installed_version(name) or "missing" for name in base_parts()}
    if as_json:
        print_json(versions)
    else:
        print_table(("part", "version"), list(versions.items()))
