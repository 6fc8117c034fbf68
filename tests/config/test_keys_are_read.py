"""Every configuration key does something: some code outside ``config/`` reads it."""

from __future__ import annotations

import ast
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import r1rl.config as config
from r1rl.config import RunConfig
from r1rl.config.base import Section

SOURCE = Path(config.__file__).parents[1]
ELSEWHERE = {
    "GuardConfig.max_kl": "read by name, from the table r1rl.grpo.guards.GUARDS",
    "GuardConfig.min_entropy": "read by name, from the table r1rl.grpo.guards.GUARDS",
    "GuardConfig.min_length": "read by name, from the table r1rl.grpo.guards.GUARDS",
}
"""Keys that are read in a way this test does not see."""
IN_CONFIG = {
    "DatasetConfig.preset": "r1rl.config.published fills the keys",
    "VLLMConfig.gpu_memory_utilization": "VLLMConfig.gpu_share adds its default",
    "RunConfig.stages": "taken apart by r1rl.config.load.stage_config",
    "DatasetConfig.rewards": "r1rl.config.applied says what runs on a source",
    "GRPOConfig.overlong_buffer": "r1rl.config.applied adds the penalty",
    "RolloutConfig.top_p": "must be 1, says r1rl.config.checks",
    "RolloutConfig.top_k": "must be 0, says r1rl.config.checks",
    "GRPOConfig.algorithm": "sets the defaults of other keys when the section is made",
    **{
        f"StageConfig.{name}": "laid over the run's section by r1rl.config.load.stage_config"
        for name in (*RunConfig.model_fields, "model", "data")
    },
}
"""Keys whose whole effect is inside ``config/``."""

Types = dict[str, typing.Any]


def sections(model: type[BaseModel] = RunConfig) -> Iterator[type[BaseModel]]:
    """Every section there is, each once or more."""
    yield model
    for field in model.model_fields.values():
        for inner in parts(field.annotation):
            if isinstance(inner, type) and issubclass(inner, Section):
                yield from sections(inner)


def parts(annotation: typing.Any) -> Iterator[typing.Any]:
    yield annotation
    for inner in typing.get_args(annotation):
        yield from parts(inner)


CLASSES = {model.__name__: model for model in sections()}
KEYS = sorted(f"{name}.{key}" for name, model in CLASSES.items() for key in model.model_fields)


class Reader(ast.NodeVisitor):
    """Follows values that are sections through one file: annotations, assignments, loops and attributes of self."""

    def __init__(self, tree: ast.AST, owners: dict[str, Types]) -> None:
        self.read: set[str] = set()
        self.loose: set[str] = set()
        """Attributes of values whose type it does not know."""
        self.names: list[Types] = [{}]
        self.owners, self.owner = owners, ""
        self.visit(tree)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.owner = node.name
        self.owners.setdefault(node.name, {})
        self.generic_visit(node)
        self.owner = ""

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        own = {a.arg: self.annotated(a.annotation) for a in (*node.args.args, *node.args.kwonlyargs)}
        self.names.append({**self.names[-1], **own})
        if self.owner:
            self.names[-1]["self"] = self.owner
            if any(getattr(d, "id", "") == "property" for d in node.decorator_list):
                self.owners[self.owner][node.name] = self.annotated(node.returns)
        self.generic_visit(node)
        self.names.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.bind(node.target, self.annotated(node.annotation))
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for each, value in zip(target.elts, node.value.elts, strict=False):
                    self.bind(each, self.type_of(value))
            else:
                self.bind(target, self.type_of(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.generic_visit(node)
        self.bind(node.target, self.type_of(node.value))

    def visit_For(self, node: ast.For) -> None:
        self.loop(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.loop(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehending(self, node: typing.Any) -> None:
        for generator in node.generators:
            self.visit(generator)
        self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_comprehending

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self.type_of(node.value)
        if isinstance(owner, frozenset) or owner in CLASSES:
            self.read |= {f"{each}.{node.attr}" for each in (owner if isinstance(owner, frozenset) else [owner])}
        elif owner is None:
            self.loose.add(node.attr)
        self.generic_visit(node)

    def loop(self, target: ast.expr, over: ast.expr) -> None:
        called = over.func.attr if isinstance(over, ast.Call) and isinstance(over.func, ast.Attribute) else ""
        if called in ("items", "values"):
            held = self.type_of(over.func.value)  # type: ignore[union-attr]
            inner = held[1] if isinstance(held, tuple) else None
            self.bind(target.elts[-1] if isinstance(target, ast.Tuple) else target, inner)

    def bind(self, target: ast.expr, found: typing.Any) -> None:
        if isinstance(target, ast.Name):
            scope = self.owners[self.owner] if self.owner and len(self.names) == 1 else self.names[-1]
            scope[target.id] = found
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self" and found and self.owner:
            self.owners[self.owner][target.attr] = found

    def annotated(self, node: ast.expr | None) -> typing.Any:
        if node is None:
            return None
        text = ast.unparse(node).strip("'\"")
        kept = [part for part in text.split(" | ") if part != "None"]
        if len(kept) != 1:
            return frozenset(kept) if kept and set(kept) <= set(CLASSES) else None
        if "[" in kept[0]:
            inner = next((name for name in CLASSES if name in kept[0]), None)
            return ("holds", inner) if inner else None
        return kept[0].rpartition(".")[2]

    def type_of(self, node: ast.expr) -> typing.Any:
        if isinstance(node, ast.Name):
            return self.names[-1].get(node.id)
        if isinstance(node, ast.BoolOp):
            return next((t for t in map(self.type_of, node.values) if t is not None), None)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return "RunConfig" if node.func.id in ("stage_config", "load_config", "decided") else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "model_copy":
            return self.type_of(node.func.value)
        if isinstance(node, ast.Subscript):
            held = self.type_of(node.value)
            return held[1] if isinstance(held, tuple) else None
        if not isinstance(node, ast.Attribute):
            return None
        owner = self.type_of(node.value)
        if owner in CLASSES:
            field = CLASSES[owner].model_fields.get(node.attr)
            inner = (
                [p for p in parts(field.annotation) if isinstance(p, type) and issubclass(p, Section)] if field else []
            )
            if not inner:
                return "value"
            return ("holds", inner[0].__name__) if "dict" in str(field.annotation) else inner[0].__name__  # type: ignore[union-attr]
        return self.owners.get(owner, {}).get(node.attr) if isinstance(owner, str) else None


@pytest.fixture(scope="module")
def reads() -> tuple[set[str], set[str]]:
    """Keys read of sections, and names read of values whose type is not known."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
        if SOURCE / "config" not in path.parents
    ]
    owners: dict[str, Types] = {}
    for tree in trees:
        Reader(tree, owners)
    found = [Reader(tree, owners) for tree in trees]  # again, now that attributes of every class are known
    return set().union(*(f.read for f in found)), set().union(*(f.loose for f in found))


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_read(key: str, reads: tuple[set[str], set[str]]) -> None:
    read, loose = reads
    name = key.partition(".")[2]
    alone = Counter(each.partition(".")[2] for each in KEYS)[name] == 1
    assert key in read or (alone and name in loose) or key in ELSEWHERE or key in IN_CONFIG, (
        f"nothing outside config/ reads {key}: use it, remove it, or say here where it is read"
    )


def test_the_exceptions_are_needed(reads: tuple[set[str], set[str]]) -> None:
    assert set(ELSEWHERE) <= set(KEYS)
    assert not set(ELSEWHERE) & reads[0]
