"""What a stage of each kind costs in tokens: planned from its configuration, measured from what it left."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1rl.config import RunConfig
from r1rl.config.derived import derive
from r1rl.config.kinds import Counts, Tokens
from r1rl.config.model import TINY_VOCABULARY

LENGTH_SHARE = 0.5
"""Texts are taken to be half as long as their limit."""

# --------------------------------------------------------------------------------------------------------- planned


def plan_pretrain(view: RunConfig, rows: Counts) -> Tokens:
    """The configured number of tokens."""
    return view.pretrain.tokens, 0.0


def plan_sft(view: RunConfig, rows: Counts) -> Tokens | None:
    """Every row, in every epoch."""
    count, settings = rows["data.train"], view.sft
    return None if count is None else (count * settings.epochs * settings.max_tokens * LENGTH_SHARE, 0.0)


def plan_reward_model(view: RunConfig, rows: Counts) -> Tokens | None:
    """Both responses of every pair that is not held out, in every epoch."""
    count, settings = rows["data.train"], view.reward_model
    if count is None:
        return None
    return count * (1 - settings.held_out) * 2 * settings.epochs * settings.max_tokens * LENGTH_SHARE, 0.0


def plan_grpo(view: RunConfig, rows: Counts) -> Tokens:
    """Every completion of every step, trained on with its prompt in every epoch."""
    sizes = derive(view)
    longest = view.rollout.max_new_tokens * LENGTH_SHARE
    prompt = (sizes.max_sequence_tokens - view.rollout.max_new_tokens) * LENGTH_SHARE
    return sizes.total_completions * view.grpo.epochs * (longest + prompt), sizes.total_completions * longest


def plan_sample(view: RunConfig, rows: Counts) -> Tokens | None:
    """The samples of every problem."""
    count, limit = rows["data.train"], view.sample.max_new_tokens or view.rollout.max_new_tokens
    return None if count is None else (0.0, count * view.sample.samples * limit * LENGTH_SHARE)


def plan_evaluate(view: RunConfig, rows: Counts) -> Tokens | None:
    """The samples of every problem."""
    count, limit = rows["data.eval"], view.evaluate.max_new_tokens or view.rollout.max_new_tokens
    return None if count is None else (0.0, count * view.evaluate.samples * limit * LENGTH_SHARE)


def plan_nothing(view: RunConfig, rows: Counts) -> Tokens:
    """For a kind that neither trains nor samples."""
    return 0.0, 0.0


def sampled_rows(view: RunConfig, rows: Counts) -> int | None:
    """Upper bound on the rows that rejection sampling hands on."""
    settings, problems, mixed = view.sample, rows["data.train"], rows["sample.mix"]
    if problems is None or mixed is None:
        return sum(settings.limits.values()) or None
    each = min(settings.samples, settings.per_problem or settings.samples)
    return problems * each + mixed


def tiny_parameters(view: RunConfig) -> float:
    """Size of the model that a pretrain stage builds."""
    m = view.pretrain.model
    attention = m.hidden_size**2 * 2 + 2 * m.hidden_size * (m.hidden_size // m.heads) * m.kv_heads
    body = m.layers * (attention + 3 * m.hidden_size * m.intermediate_size)
    return float(body + TINY_VOCABULARY * m.hidden_size * (1 if m.tie_embeddings else 2))


def grpo_steps(settings: Mapping[str, Any]) -> float | None:
    """Lines of the finished metrics.jsonl; ``settings`` are not validated."""
    return _number(settings.get("steps"))


def pretrain_steps(settings: Mapping[str, Any]) -> float | None:
    """Lines of the finished metrics.jsonl; ``settings`` are not validated."""
    tokens, batch = _number(settings.get("tokens")), _number(settings.get("batch_tokens"))
    return math.ceil(tokens / batch) if tokens is not None and batch else None


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None


# -------------------------------------------------------------------------------------------------------- measured


def measure_trained(folder: Path, metrics: Mapping[str, Any]) -> Tokens:
    """For a stage that reports the tokens it trained on."""
    return float(metrics["tokens"]), 0.0


def measure_generated(folder: Path, metrics: Mapping[str, Any]) -> Tokens:
    """For a stage that reports the tokens it generated."""
    return 0.0, float(metrics["generated_tokens"])


def measure_grpo(folder: Path, metrics: Mapping[str, Any]) -> Tokens:
    """The sums over all steps of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    steps = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return sum(map(_trained, steps)), sum(map(_generated, steps))


def _trained(step: Mapping[str, Any]) -> float:
    """Tokens of all updates: those of every epoch, without completions that were left out because they have no
    gradient."""
    once = step.get("rollout/tokens", 0.0) + step.get("rollout/prompt_tokens", 0.0)  # older lines lack it
    return float(step.get("policy/tokens", once))


def _generated(step: Mapping[str, Any]) -> float:
    """Sampled tokens: with dynamic sampling those of replaced groups too."""
    return float(step.get("rollout/dynamic_tokens", step.get("rollout/tokens", 0.0)))
