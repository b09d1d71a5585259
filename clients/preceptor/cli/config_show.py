"""`preceptor config show`: every setting of every process, its value and where that came from."""

from __future__ import annotations

import os

from preceptor.cli.options import ConfigFile, Json
from preceptor.cli.output import print_json, print_table
from preceptor.config import Row, load_all


def config_show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Every setting with its value and source."""
    loaded = load_all(file=config, environ=os.environ)
    rows = {row.label: row for one in loaded.values() for row in one.rows()}  # the shared ones are equal in all
    if as_json:
        print_json([_as_dict(row) for row in rows.values()])
        return
    print_table(("setting", "value", "source"), [(row.label, _text(row.value), str(row.source)) for row in rows.values()])


def _as_dict(row: Row) -> dict[str, object]:
    return {
        "setting": row.label,
        "value": row.value,
        "source": row.source.kind,
        "where": row.source.where,
        "flag": row.knob.flag,
        "env": row.knob.env,
        "key": row.knob.key,
        "help": row.knob.help,
    }


def _text(value: object) -> str:
    return "-" if value is None else str(value)
