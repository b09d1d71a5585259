"""Settings of the services and the client: each knob is one flag, one variable and one file key, with one default.

    loaded = load(TeacherSettings, flags={"grpc_port": "6000"}, file=Path("preceptor.yaml"), environ=os.environ)
    loaded.settings.grpc_port       6000
    loaded.sources["grpc_port"]     Source(kind="flag", where="--grpc-port")

A flag wins over a variable, a variable over the file, the file over the default. Unknown names are errors.
"""

from __future__ import annotations

from preceptor.config.knobs import Knob, knobs_of
from preceptor.config.load import Loaded, Row, load, load_all
from preceptor.config.settings import (
    SETTINGS,
    ClientSettings,
    RolloutSettings,
    ServiceSettings,
    Settings,
    StudentSettings,
    TeacherSettings,
)
from preceptor.config.sources import Source

__all__ = [
    "SETTINGS",
    "ClientSettings",
    "Knob",
    "Loaded",
    "RolloutSettings",
    "Row",
    "ServiceSettings",
    "Settings",
    "Source",
    "StudentSettings",
    "TeacherSettings",
    "knobs_of",
    "load",
    "load_all",
]
