"""What the code imports, pyproject.toml declares: as a dependency, or as an extra where it is imported when needed."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = {"r1rl", "r1rl_rewards", "benchmarks"}
NOT_INSTALLED = {"vllm": "vllm", "triton": "torch", "e2b_code_interpreter": "e2b-code-interpreter"}
"""Distributions of packages that no environment of the tests needs to have."""
MODULES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in (("r1rl", ROOT / "src/r1rl"), ("r1rl_rewards", ROOT / "rewards"))
    for path in folder.rglob("*.py")
}


def names(requirements: list[str]) -> set[str]:
    found = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {normal(match[0]) for match in found if match}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def imports(tree: ast.Module, everywhere: bool) -> Iterator[str]:
    """Full names of what a module imports: by being imported, or wherever in it."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "absolute imports only"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.split(".")[0] in OWN)
        elif everywhere or not is_left_out(node):
            waiting.extend(ast.iter_child_nodes(node))


def is_left_out(node: ast.AST) -> bool:
    """Whether importing a module does not execute what stands in a statement."""
    typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return typing or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def distributions(path: Path, everywhere: bool) -> set[str]:
    """Those that a file imports from, by normal name."""
    known = packages_distributions()
    tops = {name.split(".")[0] for name in imports(tree_of(path), everywhere)}
    wanted = tops - OWN - sys.stdlib_module_names
    return {normal(NOT_INSTALLED.get(top) or known[top][0]) for top in wanted}


REQUIRED = names(PROJECT["dependencies"])
EXTRAS = {name: names(listed) for name, listed in PROJECT["optional-dependencies"].items()}
OPTIONAL = set().union(*(listed for name, listed in EXTRAS.items() if name != "dev"))


def test_every_import_is_declared() -> None:
    used = {(name, str(path.relative_to(ROOT))) for path in MODULES.values() for name in distributions(path, True)}
    missing = sorted((name, path) for name, path in used if name not in REQUIRED | OPTIONAL)
    assert not missing
    benchmarks = {name for path in (ROOT / "benchmarks").glob("*.py") for name in distributions(path, True)}
    assert benchmarks <= REQUIRED | OPTIONAL | EXTRAS["dev"]


@pytest.mark.parametrize("root", ["r1rl", "r1rl.cli", "r1rl.__main__", "r1rl.grpo.__main__", "r1rl.recipe.run"])
def test_what_an_installation_without_extras_starts_imports_none_of_them(root: str) -> None:
    seen, waiting = {root}, [root]
    while waiting:
        module = waiting.pop()
        asked = distributions(MODULES[module], False) - REQUIRED
        assert not asked, f"{module}, which {root} imports, imports {asked} at its top"
        found = {name for name in imports(tree_of(MODULES[module]), False) if name in MODULES} - seen
        seen |= found
        waiting += found


def test_rewards_need_no_extra_to_be_imported() -> None:
    for name, path in MODULES.items():
        if name.startswith("r1rl_rewards"):
            assert distributions(path, False) <= REQUIRED, name
