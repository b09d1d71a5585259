"""`mutants`: one small change of a function at a time, as a tree that compiles to the same functions at the same lines."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
NAMES = {
    "clamp_min": "clamp_max", "clamp_max": "clamp_min", "amax": "amin", "minimum": "maximum", "max": "min", "min": "max",
    "any": "all", "all": "any", "sum": "mean", "isneginf": "isnan", "isfinite": "isnan", "zeros_like": "ones_like",
    "ones_like": "zeros_like", "exp": "expm1", "expm1": "exp", "log1p": "log", "log_softmax": "softmax",
}  # fmt: skip
DROPPED = frozenset({"detach", "abs", "exp", "log1p", "tanh", "square", "clamp_min", "clamp_max", "double"})
"""Methods without whose call the expression still is one."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed module: `what` names the change; `line` is where it stands in the file."""

    line: int
    what: str
    tree: ast.Module


def mutants(tree: ast.Module) -> Iterator[Mutant]:
    """Every changed tree."""
    for number in range(sum(1 for _ in _places(tree))):
        changed = copy.deepcopy(tree)
        node = next(place for at, place in enumerate(_places(changed)) if at == number)
        before = ast.unparse(node)
        for after in _changes(node):
            line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
            yield Mutant(line, f"line {line}:{column}: {before}  ->  {after}", copy.deepcopy(changed))


def _places(tree: ast.AST, inside: bool = False) -> Iterator[ast.AST]:
    """Expressions of function bodies; assertions, annotations and texts say nothing that a test could notice."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Assert | ast.arguments | ast.Import | ast.ImportFrom | ast.Raise):
            continue
        if isinstance(tree, ast.FunctionDef) and (child is tree.returns or child in tree.decorator_list):
            continue
        within = inside or isinstance(child, ast.FunctionDef | ast.Lambda)
        if within and isinstance(
            child, ast.BinOp | ast.Compare | ast.BoolOp | ast.UnaryOp | ast.IfExp | ast.Constant | ast.Call | ast.AugAssign
        ):
            yield child
        yield from _places(child, within)


def _changes(node: ast.AST) -> Iterator[str]:
    """Changes the node in place, once for each way there is, and undoes it; what it looks like meanwhile."""
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        yield from _with(node, "op", SWAPS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield from _with(node, "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp):  # once more: --x, ~~x, not not x
        yield from _with(node, "operand", ast.UnaryOp(type(node.op)(), node.operand))
    elif isinstance(node, ast.IfExp):
        yield from _with(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from _with(node, "value", (not node.value) if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    method = isinstance(node.func, ast.Attribute)
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if name in NAMES:
        yield from _with(node.func, "attr" if method else "id", NAMES[name], node)
    if isinstance(node.func, ast.Attribute) and name in DROPPED:
        receiver = node.func.value
        before = node.func, node.args
        # `x.abs()` becomes `(x).__pos__()`: the call stays in its place, and does nothing
        node.func, node.args = ast.copy_location(ast.Attribute(receiver, "__pos__", ast.Load()), receiver), []
        yield ast.unparse(receiver)
        node.func, node.args = before


def _with(node: ast.AST, field: str, value: object, shown: ast.AST | None = None) -> Iterator[str]:
    before = getattr(node, field)
    setattr(node, field, value)
    yield ast.unparse(ast.fix_missing_locations(shown or node))
    setattr(node, field, before)
