"""The list of commands. It imports nothing, so that `preceptor --help` costs next to nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """Where a command lives ("module:function") and its one line in `--help`."""

    target: str
    help: str


COMMANDS: dict[str, CommandSpec] = {
    "compare": CommandSpec("preceptor.cli.compare:compare_recipes", "Hold recipes against each other over seeds, with controls."),
    "config show": CommandSpec("preceptor.cli.config_show:config_show", "Every setting with its value and source."),
    "demo": CommandSpec("preceptor.cli.demo:demo", "Distil the bundled pair through real services, with controls and a report."),
    "dlq drop": CommandSpec("preceptor.cli.dlq:drop", "Forget dead letters; their tasks stay dead."),
    "dlq list": CommandSpec("preceptor.cli.dlq:list_letters", "Tasks that were given up, the oldest first."),
    "dlq replay": CommandSpec("preceptor.cli.dlq:replay", "Score again what was given up, from where it was."),
    "dlq show": CommandSpec("preceptor.cli.dlq:show", "One dead letter: the task, the reason, the trace."),
    "doctor": CommandSpec("preceptor.cli.doctor:doctor", "Check this machine: parts, ports, Redis, disk."),
    "grade": CommandSpec("preceptor.cli.grade:grade", "Verdicts of a teacher that judges, on responses in a file."),
    "keys create": CommandSpec("preceptor_serving.auth.commands:create", "Make an API key; its hash goes into a key file."),
    "keys limit": CommandSpec("preceptor_serving.auth.commands:limit", "Set quotas, weight and bands of a tenant."),
    "keys list": CommandSpec("preceptor_serving.auth.commands:list_keys", "The keys of a key file, without secrets."),
    "keys redis-acl": CommandSpec("preceptor_serving.auth.commands:redis_acl", "The rights of a tenant on the queue's server."),
    "keys revoke": CommandSpec("preceptor_serving.auth.commands:revoke", "Refuse a key from now on."),
    "keys rotate": CommandSpec("preceptor_serving.auth.commands:rotate", "Replace a key; the old one ends after a grace."),
    "learn": CommandSpec("preceptor.cli.learn:learn", "Train a student by a recipe; go on where a run stopped."),
    "recipes lint": CommandSpec("preceptor.cli.recipes:lint", "Why a recipe cannot learn, and the nearest that can."),
    "recipes list": CommandSpec("preceptor.cli.recipes:list_recipes", "The recipes of a folder, and how far each was checked."),
    "recipes schema": CommandSpec("preceptor.cli.recipes:schema", "The JSON schema of recipes, for editors."),
    "recipes show": CommandSpec("preceptor.cli.recipes:show", "One recipe: its source, and what each service is told."),
    "report": CommandSpec("preceptor.cli.report:report", "Write the page of a run: curves, receipts, spending, alarms."),
    "score": CommandSpec("preceptor.cli.score:score", "A response token by token, coloured by what the teacher thinks of it."),
    "serve rollout": CommandSpec("preceptor.cli.serve:rollout", "Run the rollout service until it is stopped."),
    "serve student": CommandSpec("preceptor.cli.serve:student", "Run the student service until it is stopped."),
    "serve teacher": CommandSpec("preceptor.cli.serve:teacher", "Run the teacher service until it is stopped."),
    "teachers": CommandSpec("preceptor.cli.teachers:teachers", "What a teacher service serves, and whether its replicas agree."),
    "teachers drain": CommandSpec("preceptor.cli.drain:drain", "Take a teacher out of work; what it has is finished."),
    "teachers undrain": CommandSpec("preceptor.cli.drain:undrain", "Take a drained teacher back into work."),
    "teachers render": CommandSpec("preceptor_teacher.commands:render", "A teachers file as services for docker compose."),
    "status": CommandSpec("preceptor.cli.status:status", "How teachers stand: engines, and every job's queue."),
    "up": CommandSpec("preceptor.cli.up:up", "Start Valkey and the three services on this machine, until Ctrl-C."),
    "version": CommandSpec("preceptor.cli.version:version", "The version of Preceptor and of what it stands on."),
}
"""Command -> where it is.

To add a command, write a function with typer annotations in a module of its own under `preceptor/cli/` and add one line
here; "a b" makes `b` a command of the group `a`. The module is imported only when the command is called, so it may import
what it needs at its top. Raise `preceptor.errors` for everything that can go wrong: the frame prints code, message and
hint, and chooses the exit code. A command of the services' operator may live with what it works on, as `keys` does.
"""

GROUPS: dict[str, str] = {
    "config": "Settings: flags, variables, file.",
    "dlq": "Dead letters: tasks that were given up.",
    "keys": "API keys of the services.",
    "recipes": "Recipes: methods as YAML files.",
    "serve": "Run one of the services.",
    "teachers": "What a teacher service serves, and whether its replicas agree.",
}
"""Group -> its one line in `--help`."""
