"""The bundled teacher and student, and where their recipes are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from preceptor.errors import ConfigurationError

TEACHER_NAME = "tiny-teacher"
STUDENT_NAME = "tiny-student"
DEFAULT_PAIR = Path("examples/tiny")


@dataclass(frozen=True, slots=True)
class Pair:
    """A folder with `teacher/`, `student/` and `data/`; the recipes lie in `recipes/` of the same checkout."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Pair:
        """The pair of a folder; what is missing in it is named."""
        pair = cls(folder.resolve())
        for needed in (pair.teacher, pair.student, pair.recipe("reverse-kl")):
            if not needed.exists():
                raise ConfigurationError(
                    f"the bundled pair is not complete: {needed} is missing",
                    field="pair",
                    value=str(folder),
                    hint="run this in a checkout of the repository, or name the folder with --pair",
                )
        return pair

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher"

    @property
    def student(self) -> Path:
        return self.folder / "student"

    def recipe(self, name: str) -> Path:
        """Path of recipes/tiny-NAME.yaml."""
        return self.folder.parent.parent / "recipes" / f"tiny-{name}.yaml"

    @property
    def teacher_model(self) -> str:
        """As a `--model` flag takes it."""
        return f"{TEACHER_NAME}={self.teacher}"

    @property
    def student_model(self) -> str:
        return f"{STUDENT_NAME}={self.student}"
