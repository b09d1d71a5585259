"""The `preceptor` command. `main` is the entry point; commands are listed in `preceptor.cli.commands`."""

from __future__ import annotations

from preceptor.cli.app import main, run

__all__ = ["main", "run"]
