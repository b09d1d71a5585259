"""Which teachers an operator has named: files, flags, and what is wrong with them."""

from __future__ import annotations

import pytest

from preceptor.config import TeacherSettings
from preceptor.errors import ConfigurationError, InvalidArgument
from preceptor_teacher.catalog import TeacherSpec, read_teachers, teachers_of


def test_a_flag_names_one_teacher_by_its_folder_or_outright(tmp_path):
    folder = tmp_path / "qwen"
    [by_folder] = teachers_of(TeacherSettings(model=str(folder)))
    [named] = teachers_of(TeacherSettings(model=f"big={folder}"))
    assert (by_folder.name, named.name) == ("qwen", "big")
    assert isinstance(named, TeacherSpec)
    assert named.engine.options == {"name": "big", "folder": str(folder)}


def test_folders_of_a_file_are_relative_to_it_and_further_keys_reach_the_engine(tmp_path):
    (tmp_path / "teachers.yaml").write_text("teachers:\n  a:\n    folder: models/a\n    dtype: bf16\n    aliases: [b]\n")
    [spec] = read_teachers(tmp_path / "teachers.yaml")
    assert isinstance(spec, TeacherSpec)
    assert (spec.name, spec.aliases, spec.engine.engine) == ("a", ("b",), "hf")
    assert spec.engine.options == {"name": "a", "folder": str(tmp_path / "models/a"), "dtype": "bf16"}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("teachers: [a]", "teachers_file"),
        ("models: {}", "teachers_file"),
        ("teachers: {a: {engine: hg}}", "teachers.a.engine"),
        ("teachers: {a: 3}", "teachers.a"),
        ("teachers: {a: {folder: x, aliases: b}}", "teachers.a.aliases"),
        ("teachers: {a: {folder: x, aliases: [a]}}", "teachers.a.aliases"),
        ("teachers: {'a/b': {folder: x}}", "teachers.a/b"),
        ("teachers: {a: [", "teachers_file"),
    ],
)
def test_a_wrong_file_is_refused_by_field(tmp_path, text, field):
    path = tmp_path / "teachers.yaml"
    path.write_text(text)
    with pytest.raises((ConfigurationError, InvalidArgument)) as refused:
        teachers_of(TeacherSettings(teachers_file=path))
    assert refused.value.field == field


def test_a_service_without_teachers_says_how_to_name_one():
    with pytest.raises(ConfigurationError) as refused:
        teachers_of(TeacherSettings())
    assert "--model" in refused.value.hint
