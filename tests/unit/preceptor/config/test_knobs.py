"""Every knob has one name in each place, a help text and a default."""

import re

import pytest

from preceptor.config.knobs import Knob, every_knob, knobs_of
from preceptor.config.settings import SETTINGS, TeacherSettings

KNOBS = list(every_knob().values())


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.label)
def test_a_knob_says_what_it_is_for(knob: Knob) -> None:
    assert re.fullmatch(r"[^\n]{10,}\.", knob.help), "the docstring under the field is its help: one line that ends in a dot"


def test_no_two_knobs_share_a_name() -> None:
    variables = [name for knob in KNOBS for name in knob.env_names]
    keys = [knob.key for knob in KNOBS]
    assert len(set(variables)) == len(variables)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("section", SETTINGS)
def test_no_two_flags_of_a_process_are_equal(section: str) -> None:
    flags = [knob.flag for knob in knobs_of(SETTINGS[section]).values()]
    assert len(set(flags)) == len(flags)


def test_the_three_names_follow_from_the_field() -> None:
    port = knobs_of(TeacherSettings)["grpc_port"]
    assert (port.flag, port.env, port.key) == ("--grpc-port", "PRECEPTOR_TEACHER_GRPC_PORT", "teacher.grpc_port")
    shared = knobs_of(TeacherSettings)["redis_url"]
    assert (shared.flag, shared.env, shared.key) == ("--redis-url", "PRECEPTOR_REDIS_URL", "redis_url")
    secret = knobs_of(TeacherSettings)["redis_password"]
    assert (secret.flag, secret.key) == ("--redis-password-file", "redis_password_file")
    assert secret.env_names == ("PRECEPTOR_REDIS_PASSWORD", "PRECEPTOR_REDIS_PASSWORD_FILE")


def test_names_only_extend_the_section() -> None:
    """`PRECEPTOR_TEACHER_...` must not be readable as a shared knob that begins with the name of a section."""
    shared = [knob.field for knob in KNOBS if not knob.section]
    assert not [name for name in shared if name.split("_")[0] in SETTINGS]
