"""Readable reasoning from an OpenAI-compatible endpoint: each kept sample rewritten, and verified again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from r1rl.config import RewriteConfig, RunConfig
from r1rl.config.applied import applying
from r1rl.data.rejection import Sieve
from r1rl.errors import ConfigError
from r1rl.openai_client import ChatClient, ChatError, ChatRefusedError, Endpoint, gathered
from r1rl.records import Row, sampled_group, score_row
from r1rl.scoring import Scorer
from r1rl.tracking.console import Console, Progress
from r1rl.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_OF_THIS_SAMPLE = frozenset((400, 413, 422))
"""HTTP statuses that reject this sample only, mostly because it is too long."""


def rewrite(sieve: Sieve, cfg: RunConfig, console: Console, tokenizer: PreTrainedTokenizerBase) -> None:
    """Replace every response by its rewriting, with its length and rewards; samples without one are dropped.

    Args:
        tokenizer: the policy's; rewritings are measured in its tokens, as the responses were.

    Raises: ConfigError for a missing key, and for an endpoint that refuses every request.
    """
    settings = cfg.sample.rewrite
    assert settings is not None
    _check_key(settings)
    with console.progress("rewriting", total=len(sieve.rows), unit="sample") as progress:
        texts = asyncio.run(_rewritten(sieve.rows, settings, progress))
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
    """``reward`` and ``rewards`` of every row, given its response's tokens; None where none applies."""
    groups = [sampled_group(row, ids) for row, ids in zip(rows, completion_ids, strict=True)]
    for group in groups:
        scorer.submit(group)
    return [score_row(scored) for scored in scorer.score(groups)]


def _tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that a policy would have sampled for this text, the stop token included."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def _check_key(settings: RewriteConfig) -> None:
    if settings.api_key_env is not None and settings.api_key_env not in os.environ:
        raise ConfigError(f"sample.rewrite.api_key_env: the environment has no {settings.api_key_env}; export it")


def _shown(question: str | list[Message]) -> str:
    """A conversation as text, each message after its role."""
    if isinstance(question, str):
        return question
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in question)


async def _rewritten(rows: list[Row], settings: RewriteConfig, progress: Progress) -> list[str | None]:
    """Each row's rewriting, in the rows' order; None for those without one."""
    fields = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    endpoint = Endpoint(
        settings.url, settings.model, settings.api_key_env, settings.timeout_s, settings.retries, options=fields
    )
    async with ChatClient(endpoint, asyncio.Semaphore(settings.concurrent)) as chat:
        return await gathered(_ask(chat, row, settings, progress) for row in rows)


async def _ask(chat: ChatClient, row: Row, settings: RewriteConfig, progress: Progress) -> str | None:
    """One rewriting; None after the last attempt failed or came back empty."""
    content = f"{settings.instruction}\n\nQuestion:\n{_shown(row['question'])}\n\nResponse:\n{row['response']}"
    try:
        text = await chat.ask([{"role": "user", "content": content}], str.strip)
    except ChatRefusedError as error:
        if error.status in _OF_THIS_SAMPLE:
            return None
        raise ConfigError(
            f"sample.rewrite: {error}; check its url, its model and the key in api_key_env ({settings.api_key_env})"
        ) from error
    except ChatError:
        return None
    finally:
        progress.update(done=progress.done + 1)
    begin = row["response"][: len(row["response"]) - len(row["response"].lstrip())]
    return begin + text if text else None  # it still continues the same prompt
