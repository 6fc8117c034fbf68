"""What a stage cost: 6·N floating-point operations per trained token, 2·N per generated one, N active parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1rl.config.kinds import kind_of
from r1rl.recipe.graph import Node

TRAIN, GENERATE = 6, 2


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of one stage and the size of its model."""

    parameters: int
    trained: float = 0.0
    generated: float = 0.0

    @property
    def flops(self) -> float:
        """Floating-point operations."""
        return self.parameters * (TRAIN * self.trained + GENERATE * self.generated)

    def metrics(self) -> dict[str, float]:
        """For results.json."""
        return {
            "compute/parameters": self.parameters,
            "compute/trained_tokens": self.trained,
            "compute/generated_tokens": self.generated,
            "compute/flops": self.flops,
        }


def measured(kind: str, folder: Path, model: Path, metrics: Mapping[str, Any]) -> Work | None:
    """The work of a finished training or sampling stage; None for kinds that neither train nor sample and for unknown
    sizes."""
    size, tokens = parameters_of(model), kind_of(kind).measured
    return None if size is None or tokens is None else Work(size, *tokens(folder, metrics))


def parameters_of(folder: Path) -> int | None:
    """Parameters of a model folder, counted from the headers of its weight files; None where there are none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


def lineage(nodes: Mapping[str, Node], name: str, borrowed: bool) -> list[str]:
    """The stages that a model descends from: through checkpoints, and with ``borrowed`` through data and rewards
    too."""
    found, open_ends = {name}, [name]
    while open_ends:
        node = nodes[open_ends.pop()]
        upstream = node.inputs if borrowed else [each for each in node.inputs if each == node.view.model.path]
        open_ends += [each for each in upstream if each not in found]
        found.update(upstream)
    return [each for each in nodes if each in found]


def spent(nodes: Mapping[str, Node], results: Mapping[str, Mapping[str, Any]], name: str, borrowed: bool) -> float:
    """Floating-point operations that went into a model, as far as its stages were measured."""
    stages = lineage(nodes, name, borrowed)
    return float(sum(results.get(each, {}).get("compute/flops", 0.0) for each in stages))
