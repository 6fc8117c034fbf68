"""Assert blocks: HumanEval's ``check``, MBPP's ``test_list``, and others in Python.

What is expected is inside the asserts, so they never run in the program's process. Where every assert compares one call
with literals, they become calls whose results are compared outside (:mod:`r1rl.programs.calls`). Otherwise the block
runs in a second sandbox, the judge, and each call in it goes to the program over a pipe; results come back as plain
data, and objects of the program's own types stay there and are equal to nothing but themselves.
"""

from __future__ import annotations

import ast
import builtins
import json
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from r1rl.errors import DataError
from r1rl.programs.bench import Bench, Graded, Tests, last_words
from r1rl.programs.calls import CallTests, FunctionCall, failure_of, judge_source, program_source
from r1rl.programs.types import Interactive, ProgramVerdict


def assert_tests(code: str, *, setup: str = "", entry: str | None = None) -> Tests:
    """The tests of an assert block.

    Args:
        code: statements with asserts, or functions ``test_…`` with them, as pytest has it; with ``entry``, they define
            ``check(candidate)``, as in HumanEval. ``from solution import …`` names the program's functions.
        setup: imports and helpers of the tests, which the program gets too.
        entry: name of the function that ``check`` is given.

    Raises: DataError for code that is not Python.
    """
    try:
        tree = ast.parse(code)
        ast.parse(setup)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise DataError(f"the test code is not valid Python: {error}; fix the row or leave it out") from error
    calls = _simple_calls(tree, entry)
    if calls:
        return CallTests(calls, preamble=setup)
    return JudgedTests(ast.unparse(_called(tree)), setup, entry)


@dataclass(frozen=True, slots=True)
class JudgedTests:
    """Asserts that a judge in a sandbox of its own decides."""

    code: str
    setup: str
    entry: str | None

    def __len__(self) -> int:
        return max(1, sum(_is_real(node) for node in ast.walk(ast.parse(self.code))))

    async def grade(self, source: str, language: str, bench: Bench) -> Graded:
        """Run judge and program, connected. ``total`` counts the asserts that were reached, at least those written."""
        if language != "python" or not isinstance(bench.runner, Interactive):
            name = type(bench.runner).__name__
            return Graded(None, 0, len(self), f"{name} cannot judge these asserts about a program in {language}")
        program = program_source(f"{self.setup}\n{source}")
        judge = judge_source(self.setup, _counted(self.code), self._remote(), self.entry, bench.credit == "share")
        judged, execution = await bench.interact(judge, program)
        report = _report(judged.stderr)
        if report is None:  # the judge broke on what the program sent it
            return Graded(judged.failure or failure_of(execution), 0, len(self), last_words(execution))
        if report["failures"] == ["tests"]:
            return Graded(None, 0, len(self), judged.stderr.strip().rpartition("\n")[0][-500:])
        passed, total = report["passed"], max(len(self), report["passed"] + report["failed"])
        if not report["failures"]:
            return Graded(ProgramVerdict.PASSED, passed, max(1, passed))
        reason = report["failures"][0]
        verdict = failure_of(execution) if reason == "ended" else ProgramVerdict(reason)
        words = judged.stderr.strip().rpartition("\n")[0][-500:]
        return Graded(verdict, passed, total, last_words(execution) or words)

    def _remote(self) -> list[str]:
        """The names that the tests use and nothing but the program can define."""
        known = set(_names(self.setup, symtable.Symbol.is_assigned, symtable.Symbol.is_imported))
        return [name for name in _free(self.code) if name not in known and not hasattr(builtins, name)]


def _report(stderr: str) -> dict[str, Any] | None:
    """The counts on the judge's last line."""
    try:
        report = json.loads(stderr.rstrip("\n").rpartition("\n")[2])
    except ValueError:
        return None
    return report if isinstance(report, dict) and report.keys() == {"passed", "failed", "failures"} else None


# ------------------------------------------------------------------------------------------- asserts that are calls


def _simple_calls(tree: ast.Module, entry: str | None) -> list[FunctionCall]:
    """The asserts as calls; empty if any statement is more than that."""
    body: Sequence[ast.stmt] = tree.body
    named = None
    if entry is not None:
        checks = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "check"]
        others = [node for node in body if node not in checks and not _is_idle(node)]
        if len(checks) != 1 or others or len(checks[0].args.args) != 1:
            return []
        body, named = checks[0].body, checks[0].args.args[0].arg
    calls = [_as_call(node, named, entry) for node in body if not _is_idle(node)]
    return [call for call in calls if call is not None] if None not in calls else []


def _is_idle(node: ast.stmt) -> bool:
    """A docstring, HumanEval's ``METADATA``, ``pass``, or an assert that asks nothing (``assert True``)."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="METADATA")]):
            return True
        case ast.Assert(test=ast.Constant(value=value)):
            return bool(value)
    return False


def _is_real(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant)


def _as_call(node: ast.stmt, named: str | None, entry: str | None) -> FunctionCall | None:
    match node:
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])):
            return _call(left, right, "equal", named, entry)
        case ast.Assert(test=ast.Compare(left=left, ops=[ast.Is()], comparators=[ast.Constant(value=None | bool())])):
            return _call(left, node.test.comparators[0], "is", named, entry)  # type: ignore[attr-defined]
        case ast.Assert(test=ast.UnaryOp(op=ast.Not(), operand=call)):
            return _call(call, ast.Constant(False), "true", named, entry)
        case ast.Assert(test=call):
            return _call(call, ast.Constant(True), "true", named, entry)
    return None


def _call(node: ast.expr, expected: ast.expr, rule: str, named: str | None, entry: str | None) -> FunctionCall | None:
    """``name(literals…)`` against a literal; None for anything else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    name = node.func.id
    if (named is not None and name != named) or hasattr(builtins, name):
        return None
    try:
        args = [ast.literal_eval(arg) for arg in node.args]
        keywords = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
        wanted = ast.literal_eval(expected)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if len(keywords) != len(node.keywords):
        return None
    return FunctionCall(entry or name, args, wanted, keywords, rule)


# ----------------------------------------------------------------------------------------------- what the judge gets


class _Counting(ast.NodeTransformer):
    """Reports each assert to ``_r1rl_judge``, which goes on after one that fails, or not."""

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        if isinstance(node.test, ast.Constant):
            return node
        text = "try: pass\nexcept Exception as _r1rl_error: _r1rl_judge.broken(_r1rl_error)\nelse: _r1rl_judge.held()"
        guard = ast.parse(text).body[0]
        assert isinstance(guard, ast.Try)
        guard.body = [node]
        return ast.fix_missing_locations(ast.copy_location(guard, node))


def _called(tree: ast.Module) -> ast.Module:
    """Tests as pytest has them, with their functions called and without the import of the program."""
    body = [node for node in tree.body if not (isinstance(node, ast.ImportFrom) and node.module == "solution")]
    tests = [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    calls = [ast.Expr(ast.Call(ast.Name(name, ast.Load()), [], [])) for name in tests]
    return ast.fix_missing_locations(ast.Module([*body, *calls], []))


def _counted(code: str) -> str:
    return ast.unparse(_Counting().visit(ast.parse(code)))


def _free(code: str) -> list[str]:
    """Global names that code uses and does not bind."""
    table = symtable.symtable(code, "tests", "exec")
    bound = set(_names(code, symtable.Symbol.is_assigned, symtable.Symbol.is_imported))
    used = {
        symbol.get_name() for scope in _scopes(table) for symbol in scope.get_symbols() if _is_global(scope, symbol)
    }
    return sorted(used - bound)


def _is_global(scope: symtable.SymbolTable, symbol: symtable.Symbol) -> bool:
    return symbol.is_referenced() and (symbol.is_global() or scope.get_type() == "module")


def _names(code: str, *kinds: Any) -> Iterator[str]:
    """The names that code binds at module level."""
    for symbol in symtable.symtable(code, "tests", "exec").get_symbols():
        if any(kind(symbol) for kind in kinds):
            yield symbol.get_name()


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)
