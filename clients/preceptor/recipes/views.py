"""What a teacher reads instead of the student's prompt: a text with places for fields of the data.

    view: "{prompt}\\nA worked solution: {solution}\\nSolve the problem again."

A place is a field's name in braces and nothing else; `{{` and `}}` stand for braces.
"""

from __future__ import annotations

from string import Formatter


def fields_of(view: str) -> list[str]:
    """The fields that a view names, in its order; ValueError where a place holds anything else."""
    names: list[str] = []
    for _, name, spec, conversion in Formatter().parse(view):
        if name is None:
            continue
        if spec or conversion or not name.isidentifier():
            raise ValueError(f"a place holds the name of a field and nothing else, not {{{name}}}")
        names.append(name)
    return names


def check_view(view: str) -> str:
    """The view itself, once its places were found to be names."""
    fields_of(view)
    return view
