"""The table of what a changed configuration key does to a stage that has begun or finished.

A key without a row is ``learned``: at worst, a new key that nobody added here redoes a stage needlessly.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from enum import Enum
from typing import Any

from r1rl.config import RunConfig
from r1rl.config.walk import is_section, sections


class Effect(Enum):
    """What a changed key requires."""

    FREE = "free"
    """Does not change what is learned: the stage resumes, or stays finished."""
    EXTENDS = "extends"
    """Sets how long the stage trains: with a larger value it resumes from its last checkpoint."""
    SIFTS = "sifts"
    """Decides which samples are kept: the drawn samples are filtered again; if they are gone, the stage is redone."""
    LEARNED = "learned"
    """The stage is redone from the beginning."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """A row of the table. ``pattern`` is a dotted key in which ``NAME`` matches one part; a final ``.*`` includes all
    keys below it."""

    pattern: str
    effect: Effect
    why: str
    kinds: tuple[str, ...] = ()
    """Kinds of stage that the row applies to; empty for all."""
    when: Callable[[RunConfig], bool] | None = None
    """Condition under which the row applies; None for always."""


def _free(why: str, *patterns: str, kinds: tuple[str, ...] = ()) -> tuple[KeyRule, ...]:
    return tuple(KeyRule(pattern, Effect.FREE, why, kinds) for pattern in patterns)


def _refuses_overlap(view: RunConfig) -> bool:
    return view.data.on_overlap == "error"


def _samples_once(view: RunConfig) -> bool:
    return not view.grpo.dynamic_sampling


def _rewrites_nothing(view: RunConfig) -> bool:
    return view.sample.rewrite is None


def _measures_no_pass_rate(view: RunConfig) -> bool:
    return view.data.difficulty is None and _samples_once(view)


_ROUNDING = "how the update is computed; the result is equal up to rounding"
_WATCHED = "what is saved, logged or measured during training"
_LIMITS = "limits, concurrency, and where rewards and rewriting run"
_PLACE = "where and on which hardware the stage runs"

ROWS: tuple[KeyRule, ...] = (
    *_free(_PLACE, "name", "output_dir", "threads", "device", "tracking.*", "hub.*"),
    *_free(
        _ROUNDING,
        "model.gradient_checkpointing",
        "grpo.tokens_per_microbatch",
        "grpo.logprob_chunk",
        "grpo.sequence_parallel",
        "sft.micro_batch_size",
        "reward_model.micro_batch_size",
    ),
    *_free(
        _WATCHED,
        "grpo.checkpoint_every",
        "grpo.keep_checkpoints",
        "grpo.eval_every",
        "grpo.entropy_every",
        "sft.checkpoint_every",
        "reward_model.checkpoint_every",
        "evaluate.show",
    ),
    *_free("when a run stops or warns", "grpo.guards.*"),
    *_free(
        _LIMITS,
        "grpo.deadline_s",
        "scoring.workers",
        "scoring.cpu_seconds",
        "scoring.wall_seconds",
        "scoring.memory_mb",
        "scoring.function_timeout_s",
        "scoring.function_memory_mb",
        "scoring.concurrency",
        "scoring.max_lost",
        "rewards.NAME.where",
        "rewards.NAME.processes",
        "rollout.max_concurrent",
        "evaluate.batch_size",
        "sample.rewrite.url",
        "sample.rewrite.api_key_env",
        "sample.rewrite.timeout_s",
        "sample.rewrite.retries",
        "sample.rewrite.concurrent",
    ),
    *_free(
        "which engine samples, and how it runs; the distribution is the same",
        "rollout.engine",
        *(
            f"rollout.vllm.{name}"
            for name in (
                "mode",
                "urls",
                "servers",
                "launcher",
                "host",
                "port",
                "api_key_env",
                "transfer",
                "bucket_mb",
                "tensor_parallel_size",
                "gpu_memory_utilization",
                "kv_cache_gb",
                "enable_sleep_mode",
                "threads",
                "seeded",
                "check_tolerance",
                "start_timeout_s",
                "request_timeout_s",
                "sync_timeout_s",
                "probe_every_s",
                "probe_timeout_s",
                "max_attempts",
                "max_restarts",
            )
        ),
    ),
    *_free(
        "only sets defaults of other keys, which are compared themselves",
        "grpo.algorithm",
        "data.train.NAME.preset",
        "data.eval.NAME.preset",
        "data.held_out.NAME.preset",
        "sample.mix.NAME.preset",
    ),
    *_free(
        "not read by this kind of stage",
        "rollout.prompts_per_step",
        "rollout.group_size",
        "rollout.temperature",
        "rollout.top_p",
        "rollout.top_k",
        "rollout.max_staleness",
        "rollout.dynamic_sampling.*",
        kinds=("sample", "evaluate"),
    ),
    *_free("not read by this kind of stage", "data.difficulty.*", kinds=("sft", "reward_model", "sample")),
    *(
        KeyRule(
            pattern,
            Effect.FREE,
            "only measured, never trained on; with data.on_overlap: drop it determines what is trained on",
            ("grpo", "sft", "reward_model"),
            _refuses_overlap,
        )
        for pattern in ("data.eval.*", "data.held_out.*")
    ),
    KeyRule(
        "evaluate.reward",
        Effect.FREE,
        "affects what is learned only with data.difficulty or dynamic sampling",
        ("grpo",),
        _measures_no_pass_rate,
    ),
    KeyRule(
        "rollout.dynamic_sampling.*",
        Effect.FREE,
        "not read while grpo.dynamic_sampling is off",
        ("grpo",),
        _samples_once,
    ),
    *(
        KeyRule(
            f"sample.{name}",
            Effect.SIFTS,
            "which samples are kept; with sample.rewrite learned, because the endpoint would rewrite all of them again",
            when=_rewrites_nothing,
        )
        for name in (
            "keep.*",
            "filters.*",
            "deduplicate",
            "decontaminate",
            "per_problem",
            "limits.*",
            "mix.*",
            "response",
        )
    ),
    KeyRule("grpo.steps", Effect.EXTENDS, "how long the stage trains"),
    KeyRule("sft.epochs", Effect.EXTENDS, "how long the stage trains"),
    KeyRule("reward_model.epochs", Effect.EXTENDS, "how long the stage trains"),
)


def effect(kind: str, key: str, view: RunConfig) -> Effect:
    """What a change of ``key`` does to a stage of this kind; ``view`` is the stage's configuration."""
    for row in ROWS:
        applies = (not row.kinds or kind in row.kinds) and (row.when is None or row.when(view))
        if applies and _matches(row.pattern).fullmatch(key):
            return row.effect
    return Effect.LEARNED


@dataclass(frozen=True, slots=True)
class Default:
    """Default of a key in the schema; ``value`` is MISSING if the key is required."""

    value: Any
    named: bool
    """Whether the key belongs to something that the user named, such as a reward or a data source."""


def default(key: str) -> Default | None:
    """The default of a dotted key; None if the schema has no such key, as for keys inside ``args``."""
    for end in range(len(parts := key.split(".")), 0, -1):
        above, name = ".".join(parts[: end - 1]), parts[end - 1]
        for path, section, _ in sections(RunConfig):
            field = section.model_fields.get(name)
            if field is None or not _matches(path).fullmatch(above):
                continue
            if end == len(parts):
                value = MISSING if field.is_required() else field.get_default(call_default_factory=True)
                return Default(value, "NAME" in path)
            return None if is_section(field) else Default(MISSING, "NAME" in path)
    return None


@functools.cache
def _matches(pattern: str) -> re.Pattern[str]:
    whole = pattern.removesuffix(".*")
    inner = re.escape(whole).replace("NAME", r"[^.]+")
    return re.compile(inner + (r"(\..*)?" if whole != pattern else ""))
