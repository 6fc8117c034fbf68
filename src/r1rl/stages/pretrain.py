"""Build a tokenizer and a small base model on a generated corpus, so that a whole recipe runs with no download."""

from __future__ import annotations

import inspect
import io
import itertools
import json
import logging
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from r1rl.config.model import TINY_VOCABULARY, TinyModelConfig
from r1rl.config.stages import PretrainConfig
from r1rl.data.toy import CORPORA, Document
from r1rl.distributed.interrupt import Interrupted
from r1rl.errors import ConfigError, writing
from r1rl.files import write_bytes
from r1rl.grpo.learner import weight_decay_groups
from r1rl.model.attention import register
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy
from r1rl.stages.base import StageContext, StageResult
from r1rl.tracking import build_tracker

log = logging.getLogger(__name__)

TOKENIZER_DOCUMENTS = 2000
UNFINISHED = "unfinished.pt"
"""In the stage's folder: weights, moments and losses of a training that was asked to end."""


def run(ctx: StageContext) -> StageResult:
    """Train from scratch for ``pretrain.tokens`` tokens; the same seed gives the same model, bit for bit.

    Raises: Interrupted where the run was asked to end; the same training resumes from there.
    """
    cfg, seed = ctx.config.pretrain, ctx.config.seed
    if cfg.corpus not in CORPORA:
        raise ConfigError(f"pretrain.corpus {cfg.corpus!r} is unknown; there are {', '.join(CORPORA)}")
    known = list(inspect.signature(CORPORA[cfg.corpus]).parameters)[1:]
    for name in cfg.corpus_args:
        if name not in known:
            raise ConfigError(f"pretrain.corpus_args: {cfg.corpus} takes no {name}, only {', '.join(known)}")
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(documents(cfg.corpus, -1, cfg.corpus_args), TOKENIZER_DOCUMENTS)
    model = build_model(cfg.model, tokenizer)
    model.to(ctx.accelerator.device)
    losses = train(model, tokenizer, cfg, seed, ctx)
    folder = ctx.folder / "model"
    if ctx.accelerator.is_main_process:
        Policy(model, tokenizer).save(folder)
    metrics = {"loss": losses[-1], "tokens": cfg.tokens}
    return StageResult(model=folder, metrics=metrics, spent=ctx.folder / UNFINISHED)


def documents(corpus: str, seed: int, args: Mapping[str, Any] | None = None) -> Iterator[Document]:
    """An endless corpus, the same for the same seed."""
    rng = random.Random(f"{corpus}/{seed}")
    while True:
        yield CORPORA[corpus](rng, **args or {})


def build_tokenizer(corpus: Iterator[Document], count: int) -> Qwen2Tokenizer:
    """Byte-level BPE of a few hundred tokens, every digit a token of its own.

    It is trained from Qwen2's own, because transformers loads any tokenizer in a Qwen2 folder as Qwen2's: rules for
    splitting text other than Qwen2's would be dropped silently.
    """
    tokenizer: Qwen2Tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        ("".join(next(corpus)) for _ in range(count)), TINY_VOCABULARY, show_progress=False
    )
    return tokenizer


def build_model(cfg: TinyModelConfig, tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """A Qwen2-architecture model with fresh weights."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.intermediate_size,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        num_key_value_heads=cfg.kv_heads,
        max_position_embeddings=cfg.max_positions,
        tie_word_embeddings=cfg.tie_embeddings,
        initializer_range=cfg.hidden_size**-0.5,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    config._attn_implementation = register()
    model: Qwen2ForCausalLM = Qwen2ForCausalLM(config).float()
    return model


def packs(
    corpus: Iterator[Document], tokenizer: Qwen2Tokenizer, budget: int, positions: int
) -> Iterator[list[list[int]]]:
    """Batches of whole documents, at most ``budget`` tokens each.

    Raises: ConfigError for a document of more than ``positions`` tokens, the model's limit.
    """
    batch: list[list[int]] = []
    total = 0
    while True:
        texts = ["".join(next(corpus)) for _ in range(64)]
        for ids in tokenizer(texts)["input_ids"]:
            ids.append(tokenizer.eos_token_id)
            if len(ids) > positions:
                raise ConfigError(
                    f"pretrain.model.max_positions {positions}: the corpus has a text of {len(ids)} tokens"
                )
            if batch and total + len(ids) > budget:
                yield batch
                batch, total = [], 0
            batch.append(ids)
            total += len(ids)


def train(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, cfg: PretrainConfig, seed: int, ctx: StageContext
) -> list[float]:
    """AdamW, warm-up and cosine to a tenth; returns the loss of every step, nats per token."""
    device = ctx.accelerator.device
    forward = PolicyForward(model, temperature=1.0, chunk=4096).train()
    optimizer = torch.optim.AdamW(
        weight_decay_groups(model, cfg.weight_decay), lr=cfg.learning_rate, betas=(0.9, 0.95), fused=True
    )
    steps = math.ceil(cfg.tokens / cfg.batch_tokens)
    warmup = max(1, round(steps * cfg.warmup_ratio))
    losses = _resume(model, optimizer, cfg, seed, ctx)
    tracker = build_tracker(
        ctx.config.tracking,
        ctx.folder,
        f"{ctx.config.name}/{ctx.name}",
        ctx.config.model_dump(mode="json"),
        resume_step=len(losses) or None,
    )
    with ctx.console.progress(f"{ctx.name}: pre-training", total=steps) as progress:
        corpus = packs(
            documents(cfg.corpus, seed, cfg.corpus_args), tokenizer, cfg.batch_tokens, cfg.model.max_positions
        )
        for step, batch in itertools.islice(enumerate(corpus), len(losses), steps):
            if ctx.interrupt.requested:
                tracker.close()
                _save(model, optimizer, cfg, seed, losses, ctx)
                raise Interrupted(f"step {len(losses)} is saved in {ctx.folder}")
            share = min((step + 1) / warmup, 0.55 + 0.45 * math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = cfg.learning_rate * share
            logps_C, _ = forward(PackedTokens.build(batch, [0] * len(batch), device))
            loss = -logps_C.mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            tracker.log(step + 1, {"pretrain/loss": losses[-1], "pretrain/lr": cfg.learning_rate * share})
            progress.update(done=step + 1, loss=losses[-1])
    tracker.close()
    return losses


def _save(
    model: Qwen2ForCausalLM,
    optimizer: torch.optim.Optimizer,
    cfg: PretrainConfig,
    seed: int,
    losses: list[float],
    ctx: StageContext,
) -> None:
    content = io.BytesIO()
    state = {"of": _of(cfg, seed), "losses": losses}
    torch.save(state | {"model": model.state_dict(), "optimizer": optimizer.state_dict()}, content)
    with writing(ctx.folder):
        write_bytes(ctx.folder / UNFINISHED, content.getbuffer())


def _resume(
    model: Qwen2ForCausalLM, optimizer: torch.optim.Optimizer, cfg: PretrainConfig, seed: int, ctx: StageContext
) -> list[float]:
    """Load the state that an earlier process saved of this same training; returns the losses of its steps."""
    file = ctx.folder / UNFINISHED
    saved = torch.load(file, weights_only=True, map_location=ctx.accelerator.device) if file.is_file() else {}
    if not saved or not _is_of(saved["of"], cfg, seed):
        return []
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    log.info(f"{ctx.name}: resuming after step {len(saved['losses'])}")
    return list(saved["losses"])


def _of(cfg: PretrainConfig, seed: int) -> str:
    return json.dumps([seed, cfg.model_dump(mode="json")], sort_keys=True)


def _is_of(written: str, cfg: PretrainConfig, seed: int) -> bool:
    then, settings = json.loads(written)
    named = {PretrainConfig.former_names.get(key, key): value for key, value in settings.items()}
    return bool([then, named] == [seed, cfg.model_dump(mode="json")])
