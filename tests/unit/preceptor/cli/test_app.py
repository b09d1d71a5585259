"""The frame of the command line: lazy, exact about mistakes, one exit code for each kind of failure."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from preceptor import errors
from preceptor.cli import app, run
from preceptor.cli.commands import COMMANDS, GROUPS, CommandSpec
from preceptor.cli.failures import exit_code
from preceptor.errors import error_classes

HEAVY = ("grpc", "numpy", "pydantic", "redis", "rich", "structlog", "httpx", "yaml", "google.protobuf")


def failing(error: BaseException) -> Callable[[], None]:
    def command() -> NoReturn:
        raise error

    return command


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    def install(error: BaseException) -> None:
        monkeypatch.setattr(app, "load_target", lambda _: failing(error))

    return install


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    code = (
        "import sys; from preceptor.cli import run; run(['--help']);"
        f"sys.exit(','.join(m for m in {HEAVY!r} if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in {*GROUPS, *(name for name in COMMANDS if " " not in name)}:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: preceptor {name} [OPTIONS]" in shown
    assert COMMANDS[name].help in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_group_has_a_help_line(name: str) -> None:
    group, _, leaf = name.rpartition(" ")
    assert leaf
    assert not group or GROUPS[group]


def test_module_and_script_are_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "preceptor", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("preceptor ")


@pytest.mark.parametrize(
    ("argv", "wrong", "meant"),
    [(["sreve"], "sreve", "serve"), (["config", "shwo"], "shwo", "show"), (["serve", "x"], "x", "teacher")],
)
def test_an_unknown_command_names_the_nearest(
    argv: list[str], wrong: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv) == 2
    shown = capsys.readouterr().err
    assert f"NOT_FOUND: unknown command '{wrong}'" in shown
    assert meant in shown


def test_an_unknown_flag_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "teacher", "--grpc-prot", "1"]) == 2
    assert "--grpc-port" in capsys.readouterr().err


@pytest.mark.parametrize("error", error_classes().values())
def test_a_failure_prints_code_message_and_hint(
    error: type[errors.PreceptorError], fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error("it went wrong", hint="do this"))
    assert run(["version"]) == exit_code(error("")) != 0
    shown = capsys.readouterr()
    assert shown.err == f"{error.code}: it went wrong\n  hint: do this\n"
    assert shown.out == ""


def test_exit_codes_tell_who_has_to_act() -> None:
    codes = {str(code): exit_code(cls("")) for code, cls in error_classes().items()}
    assert {code for code, exit_ in codes.items() if exit_ == 2} == {
        *("INVALID_ARGUMENT", "TOO_LARGE", "CONFIGURATION", "UNAUTHENTICATED"),
        *("PERMISSION_DENIED", "NOT_FOUND", "WRONG_PAIR", "UNSUPPORTED"),
    }
    assert {code for code, exit_ in codes.items() if exit_ == 130} == {"CANCELLED"}


def test_ctrl_c_ends_with_130(fail_with: Callable[[BaseException], None]) -> None:
    fail_with(KeyboardInterrupt())
    assert run(["version"]) == 130


def test_a_traceback_only_with_debug(fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(RuntimeError("boom at redis://u:hunter22@h"))
    assert run(["version"]) == 1
    plain = capsys.readouterr().err
    assert plain.startswith("INTERNAL: RuntimeError: boom")
    assert "Traceback" not in plain
    assert "--debug" in plain
    assert run(["--debug", "version"]) == 1
    debug = capsys.readouterr().err
    assert "Traceback" in debug
    assert "hunter22" not in plain + debug


def test_a_reader_that_leaves_early_is_no_failure_worth_a_word() -> None:
    command = f"{shlex.quote(sys.executable)} -m preceptor config show | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_a_new_command_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(COMMANDS, "platform", CommandSpec("platform:libc_ver", "Which libc."))
    assert run(["--help"]) == 0
    assert "Which libc." in capsys.readouterr().out
    assert app.called_command(["platform"]) == "platform"


def test_what_a_name_carries_cannot_steer_the_terminal(
    fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(errors.NotFound("no run \x1b[2Jä\r\x07\u202e", hint="é\x9b31m"))
    run(["version"])
    assert capsys.readouterr().err == "NOT_FOUND: no run \\x1b[2Jä\\r\\x07\\u202e\n  hint: é\\x9b31m\n"
