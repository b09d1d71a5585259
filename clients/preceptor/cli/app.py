"""Builds the command line for one call: every command by its name, and the called one with its code.

Only the module of the called command is imported. The others stand in `--help` by the line in `COMMANDS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from preceptor.cli.commands import COMMANDS, GROUPS
from preceptor.cli.failures import EXIT_INTERRUPTED, exit_code, print_failure
from preceptor.errors import Internal, NotFound, PreceptorError
from preceptor.suggest import did_you_mean

TAGLINE = "Teacher-as-a-service for on-policy distillation. One teacher, many students."


def main() -> None:
    """The console script: runs the command of `sys.argv` and exits with its code."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """The exit code of one call: 0, 2 for a mistake of the caller, 1 for other failures, 130 after Ctrl-C."""
    debug = "--debug" in _leading_flags(argv)
    try:
        _dispatch_and_flush(argv)
    except SystemExit as stop:
        return _code_of(stop)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_has_gone()
    except PreceptorError as error:
        print_failure(error, debug=debug)
        return exit_code(error)
    except Exception as error:  # the last net: a defect is reported in the same shape as every other failure
        print_failure(_defect(error), debug=debug)
        return 1
    return 0


def called_command(argv: Sequence[str]) -> str | None:
    """The longest registered name that the words of a call start with; None for a bare call or a bare group."""
    words = _words(argv)
    for length in range(len(words), 0, -1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name
    if words and words[0] not in GROUPS:
        raise _unknown(words[0], {name.split()[0] for name in COMMANDS})
    if len(words) > 1:
        raise _unknown(words[1], {name.split()[1] for name in COMMANDS if name.startswith(f"{words[0]} ")})
    return None


def build_app(called: str | None) -> typer.Typer:
    """The typer application with the code of one command and the names of all."""
    app = _group(TAGLINE)
    app.callback()(_global_options)
    groups = {name: _group(text) for name, text in GROUPS.items()}
    for name, group in groups.items():
        app.add_typer(group, name=name)
    for name, spec in COMMANDS.items():
        group, _, leaf = name.rpartition(" ")
        function = load_target(spec.target) if name == called else _not_loaded
        if name in groups:  # a command that has commands of its own, as `teachers` and `teachers render`
            groups[name].callback(invoke_without_command=True, no_args_is_help=False)(function if name == called else _nothing)
        else:
            (groups[group] if group else app).command(leaf, help=spec.help, short_help=spec.help)(function)
    return app


def load_target(target: str) -> Callable[..., None]:
    """The function behind "module:function"."""
    module, _, function = target.partition(":")
    return getattr(import_module(module), function)


def _dispatch(argv: Sequence[str]) -> None:
    build_app(called_command(argv))(list(argv) or ["--help"], prog_name="preceptor")


def _dispatch_and_flush(argv: Sequence[str]) -> None:
    """What was printed leaves here, where a reader that has gone can be told from a defect; at exit it could not."""
    try:
        _dispatch(argv)
    finally:
        sys.stdout.flush()


def _group(text: str) -> typer.Typer:
    return typer.Typer(
        help=text,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        from preceptor._version import __version__

        typer.echo(f"preceptor {__version__}")
        raise typer.Exit


def _global_options(
    _debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of a failure.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _nothing() -> None:
    """What a group does before one of its commands."""


def _not_loaded() -> None:
    """Stands in `--help` for a command that was not called; reaching it means that the dispatch is wrong."""
    raise Internal("a command was called without having been loaded")


def _leading_flags(argv: Sequence[str]) -> list[str]:
    """The global flags: what comes before the first word. None of them takes a value."""
    words = _words(argv)
    return list(argv[: argv.index(words[0])]) if words else list(argv)


def _words(argv: Sequence[str]) -> list[str]:
    """The command words: those between the global flags and the next flag."""
    first = next((i for i, word in enumerate(argv) if not word.startswith("-")), len(argv))
    end = next((i for i in range(first, len(argv)) if argv[i].startswith("-")), len(argv))
    return list(argv[first:end])


def _unknown(word: str, known: set[str]) -> NotFound:
    return NotFound(f"unknown command {word!r}", field="command", value=word, hint=did_you_mean(word, known))


def _code_of(stop: SystemExit) -> int:
    return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _reader_has_gone() -> int:
    """`preceptor ... | head` ends quietly: nothing is left that Python could fail to flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _defect(error: Exception) -> Internal:
    internal = Internal(f"{type(error).__name__}: {error}", hint="run again with --debug for the traceback, and report it")
    internal.__cause__ = error
    return internal
