"""Readable reasoning from an OpenAI-compatible endpoint: each kept sample rewritten, and verified again."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from r1rl.config import RewriteConfig, RunConfig
from r1rl.config.applied import applying
from r1rl.data.sieve import Sieve
from r1rl.errors import ConfigError
from r1rl.records import Row, sampled_group, score_row
from r1rl.scoring import Scorer
from r1rl.tracking.console import Console
from r1rl.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def rewrite(sieve: Sieve, cfg: RunConfig, console: Console, tokenizer: PreTrainedTokenizerBase) -> None:
    """Replace every response by its rewriting, with its length and rewards; what got none is dropped.

    Args:
        tokenizer: the policy's, in whose tokens the rewriting is counted, as those of the response were.

    Raises: ConfigError for a missing key.
    """
    settings = cfg.sample.rewrite
    assert settings is not None
    key = _key(settings)
    with (
        console.progress("rewriting", total=len(sieve.rows), unit="sample") as progress,
        ThreadPoolExecutor(settings.concurrent) as pool,
    ):
        texts = []
        for text in pool.map(lambda row: _ask(row, settings, key), sieve.rows):
            texts.append(text)
            progress.update(done=len(texts))
    sieve.rows = [
        row if text is None else row | {"original": row["response"], "response": text, "finish": "stop"}
        for row, text in zip(sieve.rows, texts, strict=True)
    ]
    sieve.keep("rewrite", [text is not None for text in texts])
    _score_again(sieve.rows, cfg, tokenizer)


def _score_again(rows: list[Row], cfg: RunConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = [_tokens(row["response"], tokenizer) for row in rows]
    with Scorer(cfg.rewards, cfg.scoring, applies=applying(cfg.rewards, cfg.data.train)) as scorer:
        for row, tokens, scores in zip(rows, ids, scores_of(rows, ids, scorer), strict=True):
            row |= {"tokens": len(tokens), **scores}


def scores_of(rows: Sequence[Row], completion_ids: Sequence[Sequence[int]], scorer: Scorer) -> list[Row]:
    """``reward`` and ``rewards`` of every row, whose response is these tokens; None where none applies."""
    groups = [sampled_group(row, ids) for row, ids in zip(rows, completion_ids, strict=True)]
    for group in groups:
        scorer.submit(group)
    return [score_row(scored) for scored in scorer.score(groups)]


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that a policy would have sampled for this text, the stop token included."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _key(settings: RewriteConfig) -> str | None:
    if settings.api_key_env is None:
        return None
    if settings.api_key_env not in os.environ:
        raise ConfigError(f"sample.rewrite.api_key_env: the environment has no {settings.api_key_env}; export it")
    return os.environ[settings.api_key_env]


def _shown(question: str | list[Message]) -> str:
    """A conversation with who said what."""
    if isinstance(question, str):
        return question
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in question)


def _ask(row: Row, settings: RewriteConfig, key: str | None) -> str | None:
    """One rewriting; None after the last attempt failed or came back empty."""
    content = f"{settings.instruction}\n\nQuestion:\n{_shown(row['question'])}\n\nResponse:\n{row['response']}"
    body = {
        "model": settings.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(
        f"{settings.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers, method="POST"
    )
    for attempt in range(settings.retries + 1):
        try:
            with urllib.request.urlopen(request, timeout=settings.timeout_s) as reply:
                text = json.load(reply)["choices"][0]["message"]["content"]
            begin = row["response"][: len(row["response"]) - len(row["response"].lstrip())]
            return begin + str(text).strip() if str(text).strip() else None  # it still continues the same prompt
        except (urllib.error.URLError, TimeoutError, ValueError, KeyError, IndexError, TypeError):
            if attempt < settings.retries:
                time.sleep(min(30.0, 2.0**attempt))
    return None
