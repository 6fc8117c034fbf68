"""Programs with one operator, comparison or constant changed."""

from __future__ import annotations

import ast
import random

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitXor: ast.BitOr, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


class _Mutator(ast.NodeTransformer):
    """Counts the places that can be changed, and changes the one with the number ``place``."""

    def __init__(self, place: int | None = None) -> None:
        self.place, self.count, self.what = place, 0, ""

    def _here(self) -> bool:
        self.count += 1
        return self.count - 1 == self.place

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if type(node) in _SWAPS and self._here():
            swapped = _SWAPS[type(node)]
            self.what = f"{type(node).__name__} to {swapped.__name__}"
            return swapped()
        return super().generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and self._here():
            return self._changed(node, node.value + "_")
        if isinstance(node.value, bool) and self._here():
            return self._changed(node, not node.value)
        if isinstance(node.value, int | float) and not isinstance(node.value, bool) and self._here():
            return self._changed(node, node.value + 1)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)  # a docstring

    def _changed(self, node: ast.Constant, value: object) -> ast.AST:
        self.what = f"{node.value!r} to {value!r}"
        return ast.Constant(value)  # type: ignore[arg-type]


def mutant(source: str, rng: random.Random, entry: str) -> tuple[str, str] | None:
    """(program, what was changed) with one place inside the function ``entry`` changed; None if there is no place."""
    tree = ast.parse(source)
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry]
    places = _Mutator()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == entry:
            for statement in node.body:
                places.visit(statement)
    if not places.count:
        return None
    mutator = _Mutator(rng.randrange(places.count))
    function.body = [mutator.visit(statement) for statement in function.body]
    return ast.unparse(ast.fix_missing_locations(tree)), mutator.what
