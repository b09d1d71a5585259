"""A tool: whoever ends a reply with an expression is told its value, whoever ends it otherwise has given an answer.

    8+6+0=     ->  14, and the rollout goes on
    834        ->  the end; reward 1 where the task's `answer` is 834, else 0

An expression is whole numbers with + - * and brackets, without spaces; a `=` behind it is left out.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict

from preceptor.recipes.load import validate
from preceptor_rollout.environments.base import Answer

MOST_CHARS = 256
MOST_BITS = 4096  # of a value: products of products grow without bounds
WHOLE_NUMBERS = re.compile(r"[0-9+*()-]+")
PARSER = Lock()
"""CPython 3.11 counts the depth of all trees in one place: two threads that parse at once fail each other with a SystemError."""
OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


class CalculatorTask(BaseModel):
    """What is known of a prompt."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    answer: str
    """What the last word of the last reply has to be."""


class Calculator:
    """An `Environment` whose state is the right answer."""

    def start(self, task: Mapping[str, Any]) -> str:
        return validate(CalculatorTask, dict(task), "task_json").answer

    def step(self, state: str, reply: str) -> Answer:
        words = reply.split()
        last = words[-1] if words else ""
        value = value_of(last.removesuffix("="))
        return Answer(reward=float(last == state)) if value is None else Answer.saying(str(value))


def create(options: Mapping[str, Any]) -> Calculator:
    """The factory that the registry names; there is nothing to choose."""
    validate(NoOptions, dict(options), "environments.options")
    return Calculator()


class NoOptions(BaseModel):
    """Any option is a mistake."""

    model_config = ConfigDict(extra="forbid")


def value_of(expression: str) -> int | None:
    """The value of an expression with at least one operation; None for everything else."""
    if len(expression) > MOST_CHARS or not WHOLE_NUMBERS.fullmatch(expression):
        return None
    try:
        with PARSER:
            tree = ast.parse(expression, mode="eval").body
        return _value(tree) if isinstance(tree, ast.BinOp) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int() as number):
            value = number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            value = -_value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            value = OPERATORS[type(op)](_value(left), _value(right))
        case _:
            raise ValueError("no whole number, + - or *")
    if value.bit_length() > MOST_BITS:
        raise ValueError("a value beyond all bounds")
    return value
