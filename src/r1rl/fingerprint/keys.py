"""What a changed configuration key does to a stage that has begun or finished: the one table.

A key without a row is ``learned``: a new key cannot be forgotten, at worst it asks for too much.
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
    """What a changed key asks for."""

    FREE = "free"
    """Does not change what is learned: the stage goes on, or stays done."""
    EXTENDS = "extends"
    """Says how far the stage goes: with a larger value it goes on from its last checkpoint."""
    SIFTS = "sifts"
    """Says what is kept of the samples: those that were drawn are sifted again; without them the stage is redone."""
    LEARNED = "learned"
    """The stage is redone from its start."""


@dataclass(frozen=True, slots=True)
class KeyRule:
    """``pattern``: dotted keys; ``NAME`` stands for one part and a final ``*`` for whatever follows."""

    pattern: str
    effect: Effect
    why: str
    kinds: tuple[str, ...] = ()
    """Kinds of stage it holds for; empty for all."""
    when: Callable[[RunConfig], bool] | None = None
    """Configurations it holds for; None for all."""


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


_ROUNDING = "how the same update is computed; equal up to rounding"
_WATCHED = "what is saved, logged or measured on the way"
_LIMITS = "how long things may take, and how many run at once"
_PLACE = "where and on what the stage runs"

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
        "which engine samples, and how it runs; it samples the same distribution",
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
    *_free("sets defaults of other keys, which count themselves", "grpo.algorithm"),
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
            "what is measured, and never trained on; with data.on_overlap: drop it decides what is trained on",
            ("grpo", "sft", "reward_model"),
            _refuses_overlap,
        )
        for pattern in ("data.eval.*", "data.held_out.*")
    ),
    KeyRule(
        "evaluate.reward",
        Effect.FREE,
        "decides what is learned only where data.difficulty or dynamic sampling looks at it",
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
            "what is kept of the samples; with sample.rewrite learned, because an endpoint would rewrite all again",
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
    KeyRule("grpo.steps", Effect.EXTENDS, "how far the stage goes"),
    KeyRule("sft.epochs", Effect.EXTENDS, "how far the stage goes"),
    KeyRule("reward_model.epochs", Effect.EXTENDS, "how far the stage goes"),
)


def effect(kind: str, key: str, view: RunConfig) -> Effect:
    """What a change of ``key`` does to a stage of this kind; ``view`` is the run as the stage sees it."""
    for row in ROWS:
        applies = (not row.kinds or kind in row.kinds) and (row.when is None or row.when(view))
        if applies and _matches(row.pattern).fullmatch(key):
            return row.effect
    return Effect.LEARNED


@dataclass(frozen=True, slots=True)
class Default:
    """Of a key of the schema; ``value`` is MISSING where it must be given."""

    value: Any
    named: bool
    """Whether it belongs to something that the user named, such as a reward or a data source."""


def default(key: str) -> Default | None:
    """The default of a dotted key; None where the schema has no such key. Keys inside ``args`` have none."""
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
