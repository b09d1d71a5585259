"""Optional parts: what each extra brings, what of it is installed, and the pip command for the rest."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from types import ModuleType

from preceptor.errors import MissingExtra

DISTRIBUTION = "preceptor"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def pip_command(extra: str) -> str:
    """The exact command that installs an extra, quoted for every common shell."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def require(module: str, *, extra: str) -> ModuleType:
    """The imported module, or `MissingExtra` whose hint is the pip command.

    Only the module's own absence counts: an installed package that fails on an import of its own raises as it is.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise _missing_extra(extra, [module]) from error


def require_extra(extra: str) -> None:
    """Nothing when every distribution of the extra is installed, else `MissingExtra` that names the absent ones."""
    if missing := missing_parts(extra):
        raise _missing_extra(extra, missing)


def missing_parts(extra: str) -> list[str]:
    """The distributions of an extra that are not installed, in the order of the package's own metadata."""
    return [name for name in parts_of(extra) if installed_version(name) is None]


def parts_of(extra: str) -> list[str]:
    """The distributions that an extra brings, read off the installed metadata so that there is no second list."""
    wanted = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    requirements = metadata.requires(DISTRIBUTION) or []
    return [_name_of(text) for text in requirements if wanted.search(text)]


def extras() -> list[str]:
    """The names of all extras, as the package's own metadata declares them."""
    return metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []


def base_parts() -> list[str]:
    """The distributions that the light client itself needs."""
    return [_name_of(text) for text in metadata.requires(DISTRIBUTION) or [] if "extra" not in text.partition(";")[2]]


def installed_version(distribution: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _name_of(requirement: str) -> str:
    match = _NAME.match(requirement)
    return match.group() if match else requirement


def _missing_extra(extra: str, missing: list[str]) -> MissingExtra:
    return MissingExtra(
        f"{', '.join(missing)} not installed; the extra '{extra}' brings it",
        field="extra",
        value=extra,
        hint=pip_command(extra),
    )
