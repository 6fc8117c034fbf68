"""Converts between r1rl's requests and completions and those of vLLM."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import Request
from r1rl.types import Completion, FinishReason, SamplingParams

_SEED_BITS = 2**62 - 1
FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
"""vLLM's reasons by ours; anything else is an abort."""

Span = tuple[str, int, int]
"""Tokens start … end were sampled by the weights of this version."""


def sampling(request: Request, params: SamplingParams, end_ids: Collection[int], seeded: bool) -> dict[str, Any]:
    """vLLM's sampling parameters: n completions, each with its sampled tokens' log-probabilities.

    vLLM seeds completion i with the request's seed + i; a request's first seed is drawn at random from 2^62, so
    streams do not meet.
    """
    wanted: dict[str, Any] = {
        "n": len(request.seeds),
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "max_tokens": params.max_new_tokens,
        "stop_token_ids": sorted(end_ids),
        "logprobs": 0,
        "detokenize": bool(params.stop),
        "skip_special_tokens": False,
    }
    if params.stop:
        wanted |= {"stop": list(params.stop), "include_stop_str_in_output": True}
    if seeded:
        wanted["seed"] = request.seeds[0] & _SEED_BITS
    return wanted


def completion(
    ending: Ending,
    token_ids: Sequence[int],
    logps: Sequence[float],
    finish: str | None,
    spans: Sequence[Span] | None,
    version: int,
) -> Completion:
    """One completion; its text is decoded here, so that every engine's text is decoded alike."""
    ids = np.asarray(token_ids, dtype=np.int64)
    first, versions = versions_of(spans, len(ids), version)
    return Completion(
        token_ids=ids,
        logps=np.asarray(logps, dtype=np.float32),
        text=ending.text(token_ids),
        finish=FINISH.get(finish or "", "abort"),
        version=first,
        versions=versions,
    )


def versions_of(spans: Sequence[Span] | None, length: int, version: int) -> tuple[int, np.ndarray | None]:
    """Version of the first token, and of each token where they differ."""
    if not spans or not length:
        return version, None
    versions = np.full(length, int(spans[0][0]), dtype=np.int32)
    for label, start, end in spans:
        versions[start:end] = int(label)
    return int(versions[0]), None if (versions == versions[0]).all() else versions
