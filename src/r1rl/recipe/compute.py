"""What a stage cost: 6·N floating-point operations a trained token, 2·N a generated one, N active parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r1rl.recipe.graph import Node

TRAIN, GENERATE = 6, 2


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of one stage and the size of the model that they went through."""

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
    """The work of a finished training or sampling stage; None for kinds that make nothing and for unknown sizes."""
    size = parameters_of(model)
    if size is None:
        return None
    if kind in ("pretrain", "sft", "reward_model"):
        return Work(size, trained=float(metrics["tokens"]))
    if kind == "sample":
        return Work(size, generated=float(metrics["generated_tokens"]))
    if kind == "grpo":
        steps = _steps(folder / "metrics.jsonl")
        return Work(size, trained=sum(map(_trained, steps)), generated=sum(map(_generated, steps)))
    return None


def parameters_of(folder: Path) -> int | None:
    """Parameters of a model folder, counted from the headers of its weight files; None where there are none."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(_elements(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


def lineage(nodes: Mapping[str, Node], name: str, borrowed: bool) -> list[str]:
    """The stages that a model comes from: through checkpoints, and with ``borrowed`` through data and rewards too."""
    found, open_ends = {name}, [name]
    while open_ends:
        node = nodes[open_ends.pop()]
        upstream = node.inputs if borrowed else [each for each in node.inputs if each == node.view.model.path]
        open_ends += [each for each in upstream if each not in found]
        found.update(upstream)
    return [each for each in nodes if each in found]


def spent(nodes: Mapping[str, Node], results: Mapping[str, Mapping[str, Any]], name: str, borrowed: bool) -> float:
    """Floating-point operations behind a model, as far as its stages were measured."""
    stages = lineage(nodes, name, borrowed)
    return float(sum(results.get(each, {}).get("compute/flops", 0.0) for each in stages))


def _trained(step: Mapping[str, Any]) -> float:
    """Tokens of all updates: every epoch's, and none of completions that had no gradient and were left out."""
    once = step.get("rollout/tokens", 0.0) + step.get("rollout/prompt_tokens", 0.0)  # lines of before it was logged
    return float(step.get("policy/tokens", once))


def _generated(step: Mapping[str, Any]) -> float:
    """Sampled tokens: with dynamic sampling those of replaced groups too."""
    return float(step.get("rollout/dynamic_tokens", step.get("rollout/tokens", 0.0)))


def _elements(shape: list[int]) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _steps(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
