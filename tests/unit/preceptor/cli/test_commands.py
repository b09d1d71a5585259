"""What each command of the frame shows and how it ends."""

import json
import os
import socket
from collections.abc import Iterator
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from preceptor import extras, logs
from preceptor.cli import checks, output, run, serve
from preceptor.config import ServiceSettings
from preceptor.config.knobs import every_knob


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PRECEPTOR_"):
            monkeypatch.delenv(name)


class TestConfigShow:
    def test_json_lists_every_setting_with_its_source(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "p.yaml"
        file.write_text("rollout:\n  drain_grace_s: 5\n")
        monkeypatch.setenv("PRECEPTOR_CLIENT_API_KEY", "sk-12345678")
        assert run(["config", "show", "--config", str(file), "--json"]) == 0
        shown = capsys.readouterr().out
        rows = {row["setting"]: row for row in json.loads(shown)}
        assert set(rows) == set(every_knob())
        assert rows["rollout.drain_grace_s"].items() >= {"value": 5.0, "source": "file", "where": f"{file}:2"}.items()
        assert rows["client.api_key"].items() >= {"value": "[redacted]", "source": "env"}.items()
        assert "sk-12345678" not in shown

    def test_without_a_terminal_lines_can_be_cut(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["config", "show"]) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert lines[0] == ["setting", "value", "source"]
        assert ["teacher.grpc_port", "50051", "default"] in lines

    def test_a_wrong_variable_ends_with_2(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("PRECEPTOR_TEACHER_GRPC_PRT", "1")
        assert run(["config", "show"]) == 2
        assert "did you mean 'PRECEPTOR_TEACHER_GRPC_PORT'" in capsys.readouterr().err


def test_a_table_on_a_terminal_shows_brackets_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    output.print_table(("a", "b"), [("[redacted]", "x")])
    assert "[redacted]" in capsys.readouterr().out


def test_version_names_what_it_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert versions["numpy"] == metadata.version("numpy")
    assert set(versions) == {"preceptor", "python", *extras.base_parts()}


class TestDoctor:
    @pytest.fixture
    def taken_port(self) -> Iterator[int]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            yield listener.getsockname()[1]

    def findings(self, capsys: pytest.CaptureFixture[str], code: int = 0) -> list[dict[str, str]]:
        assert run(["doctor", "--json"]) == code
        return json.loads(capsys.readouterr().out)

    def test_a_taken_port_names_port_and_flag(
        self, taken_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PRECEPTOR_TEACHER_GRPC_PORT", str(taken_port))
        (found,) = [one for one in self.findings(capsys) if f":{taken_port} " in one["detail"]]
        assert found["status"] == "warn"
        assert "--grpc-port" in found["hint"]
        assert "PRECEPTOR_TEACHER_GRPC_PORT" in found["hint"]

    def test_an_absent_extra_names_its_command(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks, "missing_parts", lambda extra: ["ray"] if extra == "ray" else [])
        (found,) = [one for one in checks.check_extras({}) if one.status == "warn"]
        assert (found.check, found.hint) == ("extra ray", "pip install 'preceptor[ray]'")

    def test_a_configured_redis_that_does_not_answer_is_a_failure(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            monkeypatch.setenv("PRECEPTOR_REDIS_URL", f"redis://127.0.0.1:{closed.getsockname()[1]}/0")
        (found,) = [one for one in self.findings(capsys, code=1) if one["check"] == "redis"]
        assert found["status"] == "fail"
        assert "redis_url" in found["hint"]

    @pytest.mark.parametrize(("version", "status"), [("6.2.14", "fail"), ("7.0.0", "ok"), ("7.2.4", "ok"), ("10.1", "ok")])
    def test_an_old_redis_is_a_failure(self, version: str, status: str) -> None:
        assert checks._redis_version("redis://h", version).status == status


class TestServe:
    @pytest.fixture
    def entry_points(self, monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
        points: list[EntryPoint] = []
        monkeypatch.setattr(serve, "entry_points", lambda group, name: [p for p in points if (p.group, p.name) == (group, name)])
        monkeypatch.setattr(logs, "configure_logs", lambda *_, **__: None)
        return points

    def test_missing_parts_name_the_pip_command(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(extras, "missing_parts", lambda _: ["torch"])
        assert run(["serve", "teacher"]) == 1
        assert capsys.readouterr().err == (
            "MISSING_EXTRA: torch not installed; the extra 'teacher' brings it\n  hint: pip install 'preceptor[teacher]'\n"
        )

    @pytest.mark.parametrize("target", [None, "preceptor_no_such_service.app:service"])
    def test_a_service_that_this_build_lacks_is_unsupported(
        self, target: str | None, entry_points: list[EntryPoint], capsys: pytest.CaptureFixture[str]
    ) -> None:
        if target:
            entry_points.append(EntryPoint("student", target, serve.ENTRY_POINTS))
        assert run(["serve", "student"]) == 2
        assert "UNSUPPORTED: this installation has no student service" in capsys.readouterr().err

    def test_the_service_gets_the_settings_and_gives_the_exit_code(
        self, entry_points: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "fake_service.py").write_text("seen = []\ndef service(settings):\n    seen.append(settings)\n    return 3\n")
        monkeypatch.syspath_prepend(tmp_path)
        entry_points.append(EntryPoint("rollout", "fake_service:service", serve.ENTRY_POINTS))
        assert run(["serve", "rollout", "--grpc-port", "6001"]) == 3
        import fake_service  # pyright: ignore[reportMissingImports]

        (settings,) = fake_service.seen
        assert isinstance(settings, ServiceSettings)
        assert (settings.section, settings.grpc_port, settings.rest_port) == ("rollout", 6001, 8002)

    def test_a_wrong_setting_is_refused_before_anything_is_loaded(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(extras, "missing_parts", lambda _: pytest.fail("looked for parts first"))
        assert run(["serve", "teacher", "--grpc-port", "x"]) == 2
        assert "teacher.grpc_port = x (flag --grpc-port)" in capsys.readouterr().err
