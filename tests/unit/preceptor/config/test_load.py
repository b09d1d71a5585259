"""Settings: flag over variable over file over default, each with its source; wrong names and values are refused by name."""

import itertools
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preceptor import redaction
from preceptor.config import SETTINGS, ClientSettings, Loaded, Settings, StudentSettings, TeacherSettings, load, load_all
from preceptor.config.settings import is_loopback
from preceptor.errors import ConfigurationError
from preceptor.redaction import REDACTED

T = TypeVar("T", bound=Settings)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_remembered", set())


def loaded(
    cls: type[T], *, flags: dict[str, object] | None = None, file: Path | None = None, environ: dict[str, str] | None = None
) -> Loaded[T]:
    return load(cls, flags=flags or {}, file=file, environ=environ or {})


def refused(cls: type[Settings] = TeacherSettings, **given: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        loaded(cls, **given)  # pyright: ignore[reportArgumentType]
    return caught.value


def written(folder: Path, text: str) -> Path:
    file = folder / "preceptor.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("given_in", [set(c) for n in range(4) for c in itertools.combinations(["flag", "env", "file"], n)])
def test_the_strongest_source_wins_and_is_named(given_in: set[str], tmp_path: Path) -> None:
    file = written(tmp_path, "# ports\nteacher:\n  grpc_port: 1003\n" if "file" in given_in else "")
    one = loaded(
        TeacherSettings,
        flags={"grpc_port": "1001" if "flag" in given_in else None},
        environ={"PRECEPTOR_TEACHER_GRPC_PORT": "1002"} if "env" in given_in else {},
        file=file,
    )
    expected = {
        "flag": (1001, "--grpc-port"),
        "env": (1002, "PRECEPTOR_TEACHER_GRPC_PORT"),
        "file": (1003, f"{file}:3"),
        "default": (50051, ""),
    }
    winner = next(kind for kind in ("flag", "env", "file", "default") if kind in given_in or kind == "default")
    source = one.sources["grpc_port"]
    assert (one.settings.grpc_port, source.where) == expected[winner]
    assert source.kind == winner


def test_every_default_is_valid_and_every_field_has_a_source() -> None:
    for cls in SETTINGS.values():
        one = loaded(cls)
        assert set(one.sources) == set(cls.model_fields)
        assert {source.kind for source in one.sources.values()} == {"default"}


def test_services_do_not_share_a_door() -> None:
    services = [loaded(cls).settings for name, cls in SETTINGS.items() if name != "client"]
    ports = [port for one in services for port in (one.grpc_port, one.rest_port)]  # pyright: ignore
    assert len(set(ports)) == 6


def test_a_shared_setting_has_one_name_for_all(tmp_path: Path) -> None:
    everything = load_all(file=written(tmp_path, "redis_url: redis://h:1/0\n"), environ={"PRECEPTOR_LOG_LEVEL": "debug"})
    assert {one.settings.redis_url for one in everything.values()} == {"redis://h:1/0"}
    assert {one.settings.log_level for one in everything.values()} == {"debug"}


def test_a_file_may_speak_of_all_processes(tmp_path: Path) -> None:
    file = written(tmp_path, "teacher:\n  grpc_port: 1\nclient:\n  deadline_s: 2.5\n")
    assert loaded(StudentSettings, file=file).settings.grpc_port == 50053
    assert loaded(ClientSettings, file=file).settings.deadline_s == 2.5


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = written(tmp_path, "log_level: error\n")
    assert loaded(TeacherSettings, environ={"PRECEPTOR_CONFIG": str(file)}).settings.log_level == "error"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert loaded(TeacherSettings, environ={"PRECEPTOR_REDIS_URL": ""}).sources["redis_url"].kind == "default"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PRECEPTOR_TEACHR_GRPC_PORT", "PRECEPTOR_TEACHER_GRPC_PORT"),
        ("PRECEPTOR_TEACHER_SERVICE_HOST", "enableServiceLinks"),
        ("PRECEPTOR_TEACHER_PORT_50051_TCP_ADDR", "enableServiceLinks"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_way_out(name: str, hint: str) -> None:
    error = refused(environ={name: "1"})
    assert error.field == name
    assert hint in error.hint


def test_a_kubernetes_link_is_known_by_its_value() -> None:
    assert "enableServiceLinks" in refused(environ={"PRECEPTOR_TEACHER_PORT": "tcp://10.0.0.1:50051"}).hint


def test_an_unknown_key_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refused(file=written(tmp_path, "log_level: info\nteacher:\n  grpc_prot: 1\n"))
    assert error.field == "teacher.grpc_prot"
    assert "preceptor.yaml:3" in error.message
    assert "'teacher.grpc_port'" in error.hint


def test_an_unknown_flag_is_refused() -> None:
    error = refused(flags={"grpc_prot": "1"})
    assert error.field == "--grpc-prot"
    assert "--grpc-port" in error.hint


@pytest.mark.parametrize(
    ("environ", "field", "limit"),
    [
        ({"PRECEPTOR_TEACHER_GRPC_PORT": "70000"}, "teacher.grpc_port", "65535"),
        ({"PRECEPTOR_TEACHER_GRPC_PORT": "no"}, "teacher.grpc_port", ""),
        ({"PRECEPTOR_TEACHER_REST_PORT": "50051"}, "teacher.rest_port", ""),
        ({"PRECEPTOR_TEACHER_DRAIN_GRACE_S": "nan"}, "teacher.drain_grace_s", ""),
        ({"PRECEPTOR_TEACHER_DRAIN_GRACE_S": "0"}, "teacher.drain_grace_s", "0"),
        ({"PRECEPTOR_LOG_FORMAT": "xml"}, "log_format", "'auto', 'json' or 'console'"),
        ({"PRECEPTOR_REDIS_URL": "http://h"}, "redis_url", ""),
        ({"PRECEPTOR_REDIS_URL": "redis://h:port"}, "redis_url", ""),
        ({"PRECEPTOR_REDIS_URL": "redis://h:99999"}, "redis_url", ""),
        ({"PRECEPTOR_TEACHER_HOST": "0.0.0.0"}, "teacher.host", ""),
    ],
)
def test_a_wrong_value_names_field_value_limit_and_source(environ: dict[str, str], field: str, limit: str) -> None:
    error = refused(environ=environ)
    ((name, value),) = environ.items()
    assert error.field == field
    assert error.value == value
    assert error.limit.startswith(limit)
    assert f"env {name}" in error.message
    assert name in error.hint


def test_all_wrong_values_are_named_at_once() -> None:
    error = refused(environ={"PRECEPTOR_TEACHER_GRPC_PORT": "x", "PRECEPTOR_LOG_LEVEL": "loud"})
    assert "teacher.grpc_port = x" in error.message
    assert "log_level = loud" in error.message


@given(host=st.ip_addresses().map(str))
def test_without_keys_only_loopback_is_served(host: str) -> None:
    assert is_loopback(host) == host.startswith("127.") or host == "::1"
    environ = {"PRECEPTOR_TEACHER_HOST": host}
    if is_loopback(host):
        assert loaded(TeacherSettings, environ=environ).settings.host == host
    else:
        assert "key_file" in refused(environ=environ).message
        assert loaded(TeacherSettings, environ={**environ, "PRECEPTOR_TEACHER_KEY_FILE": "keys"}).settings.host == host


class TestSecrets:
    """They come from a variable or a file of their own, and are shown nowhere."""

    def test_from_a_variable(self) -> None:
        one = loaded(ClientSettings, environ={"PRECEPTOR_CLIENT_API_KEY": "sk-12345678"})
        assert one.settings.api_key is not None
        assert one.settings.api_key.get_secret_value() == "sk-12345678"
        assert redaction.redact_text("using sk-12345678") == f"using {REDACTED}"

    @pytest.mark.parametrize("way", ["flag", "env", "file"])
    def test_from_a_file_named_by(self, way: str, tmp_path: Path) -> None:
        secret = tmp_path / "key"
        secret.write_text("sk-12345678\n", encoding="utf-8")
        one = loaded(
            ClientSettings,
            flags={"api_key_file": str(secret)} if way == "flag" else {},
            environ={"PRECEPTOR_CLIENT_API_KEY_FILE": str(secret)} if way == "env" else {},
            file=written(tmp_path, f"client:\n  api_key_file: {secret}\n") if way == "file" else None,
        )
        assert one.settings.api_key is not None
        assert one.settings.api_key.get_secret_value() == "sk-12345678"
        assert one.sources["api_key"].kind == way

    def test_never_shown(self) -> None:
        one = loaded(ClientSettings, environ={"PRECEPTOR_CLIENT_API_KEY": "sk-12345678"})
        (row,) = [row for row in one.rows() if row.label == "client.api_key"]
        assert row.value == REDACTED
        assert "sk-12345678" not in repr(one)

    def test_not_in_the_file_nor_on_the_command_line(self, tmp_path: Path) -> None:
        error = refused(ClientSettings, file=written(tmp_path, "client:\n  api_key: sk-12345678\n"))
        assert "PRECEPTOR_CLIENT_API_KEY" in error.hint
        assert "sk-12345678" not in str(error)
        with pytest.raises(ConfigurationError, match="unknown flag --api-key"):
            loaded(ClientSettings, flags={"api_key": "sk-12345678"})

    def test_not_twice(self, tmp_path: Path) -> None:
        environ = {"PRECEPTOR_CLIENT_API_KEY": "a", "PRECEPTOR_CLIENT_API_KEY_FILE": str(tmp_path)}
        assert "both set" in refused(ClientSettings, environ=environ).message

    @pytest.mark.parametrize("content", [None, "", " \n"])
    def test_an_unreadable_or_empty_file_is_refused(self, content: str | None, tmp_path: Path) -> None:
        secret = tmp_path / "key"
        if content is not None:
            secret.write_text(content, encoding="utf-8")
        assert refused(ClientSettings, environ={"PRECEPTOR_CLIENT_API_KEY_FILE": str(secret)}).field == "client.api_key"

    @pytest.mark.parametrize("url", ["redis://user:hunter22@h:6379", "redis://h:6379/0?db=1&password=hunter22"])
    def test_a_password_in_the_redis_url_is_refused_without_showing_it(self, url: str) -> None:
        error = refused(environ={"PRECEPTOR_REDIS_URL": url})
        assert "redis_password" in error.message
        assert "hunter22" not in f"{error} {error.value} {error.__cause__} {error.__context__ and error.__suppress_context__}"
