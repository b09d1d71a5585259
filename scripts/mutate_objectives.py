"""Mutation testing of the objectives: one small change at a time, and the tests that ought to notice it.

    python scripts/mutate_objectives.py [NAME ...]     names of files in preceptor_student/objectives; none: all that it knows

Each mutant runs in a fork of a process that has the heavy imports behind it, so a mutant costs seconds. A line of the output is a
mutant that no test noticed. General tools rewrite the package on disk, where other work may be going on; here a loader gives the
child the changed source, and the files stay as they are.
"""

from __future__ import annotations

import ast
import copy
import importlib.abc
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "services" / "student" / "preceptor_student" / "objectives"
TESTS = (
    *("tests/catalog/test_policies.py", "tests/objectives/test_preferences.py", "tests/objectives/test_weights.py"),
    *("tests/objectives/test_policy_gradients.py", "tests/objectives/test_every_knob.py"),
    *("tests/objectives/test_twins_and_draws.py", "tests/unit/preceptor_student/test_policy_gradient.py"),
)
FILES = (
    *("k1", "group_relative", "scale", "clip", "keep_sign", "factor_within", "kl_baseline", "reward_to_go", "policy_gradient"),
    *("ppo_clip", "ratios", "truncated_ratio", "masked_ratio", "within", "exponential", "relative", "sigmoid", "top_fraction"),
    *("mean_one", "positions", "span", "pass_rate", "freshness", "perplexity", "reward_within", "pass_rate_within", "truncated"),
    *("bounds", "samples", "responses", "quantities", "reward_pairs", "source_pairs", "dpo", "bradley_terry", "orpo"),
    *("soft_targets", "entropy", "nll"),
)
LIMIT_S = 300
NO_TEST = 5  # pytest's status where nothing was selected
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
NAMES = {
    "clamp_min": "clamp_max", "clamp_max": "clamp_min", "amax": "amin", "minimum": "maximum", "max": "min", "min": "max",
    "any": "all", "all": "any", "sum": "mean", "isneginf": "isnan",
}  # fmt: skip


def mutants(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """Every changed tree, with what was changed."""
    count = sum(1 for _ in _places(tree))
    for number in range(count):
        changed = copy.deepcopy(tree)
        node = next(place for at, place in enumerate(_places(changed)) if at == number)
        before = ast.unparse(node)
        for after in _changes(node):
            yield f"line {getattr(node, 'lineno', 0)}: {before}  ->  {after}", copy.deepcopy(changed)


def _places(tree: ast.AST) -> Iterator[ast.AST]:
    """Expressions of function bodies; assertions, annotations and texts say nothing that a test could notice."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Assert | ast.arguments | ast.Import | ast.ImportFrom):
            continue
        if isinstance(child, ast.BinOp | ast.Compare | ast.BoolOp | ast.UnaryOp | ast.IfExp | ast.Constant | ast.Call):
            yield child
        if not (isinstance(tree, ast.FunctionDef) and child is tree.returns):
            yield from _places(child)


def _changes(node: ast.AST) -> Iterator[str]:
    """Changes the node in place, once for each way there is, and undoes it; what it looks like meanwhile."""
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in SWAPS:
        yield from _with(node, "op", SWAPS[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield from _with(node, "ops", [SWAPS[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp):
        yield from _with(node, "op", ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not())
    elif isinstance(node, ast.IfExp):
        yield from _with(node, "test", ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from _with(node, "value", (not node.value) if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in NAMES:
            yield from _with(node.func, "attr" if isinstance(node.func, ast.Attribute) else "id", NAMES[name], node)


def _with(node: ast.AST, field: str, value: object, shown: ast.AST | None = None) -> Iterator[str]:
    before = getattr(node, field)
    setattr(node, field, value)
    yield ast.unparse(ast.fix_missing_locations(shown or node))
    setattr(node, field, before)


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, module: str, source: str, path: Path) -> None:
        self._module, self._source, self._path = module, source, path

    def find_spec(self, fullname, path, target=None):  # noqa: ANN001, ANN201  # the protocol of the import system
        return importlib.util.spec_from_loader(fullname, self, origin=str(self._path)) if fullname == self._module else None

    def exec_module(self, module) -> None:  # noqa: ANN001
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)  # our own file, changed


def noticed(name: str, source: str, path: Path) -> bool:
    """Whether some test fails under this source: first those that carry the file's name, then all. Taking too long counts too."""
    module = f"preceptor_student.objectives.{name}"
    near = ("-k", name, "tests/objectives/test_every_knob.py", "tests/objectives/test_weights.py")
    return _fails(module, source, path, near) or _fails(module, source, path, TESTS)


def _fails(module: str, source: str, path: Path, tests: tuple[str, ...]) -> bool:
    child = os.fork()
    if child == 0:
        signal.alarm(LIMIT_S)
        sys.meta_path.insert(0, Changed(module, source, path))
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        import pytest

        os._exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *tests])))
    return os.waitpid(child, 0)[1] not in (0, NO_TEST << 8)


def main() -> None:
    import torch
    import transformers  # noqa: F401  # imported before the fork, so that no child pays for it

    torch.set_num_threads(1)
    sys.path.insert(0, str(ROOT))
    total = survived = 0
    for name in sys.argv[1:] or FILES:
        path = FOLDER / f"{name}.py"
        for what, changed in mutants(ast.parse(path.read_text())):
            total += 1
            if not noticed(name, ast.unparse(changed), path):
                survived += 1
                print(f"{name}.py {what}", flush=True)
    print(f"{total} mutants, {total - survived} noticed, {survived} survived")


if __name__ == "__main__":
    main()
