"""A reward model by TRL: one score for prompt and response, learnt from pairs (Bradley–Terry)."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)

from r1rl.data.overlap import never_evaluated, normalized_question
from r1rl.data.problems import load_problems, response_text
from r1rl.errors import ConfigError, DataError
from r1rl.model.lengths import check_examples
from r1rl.model.load import check_saving, load_tokenizer
from r1rl.stages.base import StageContext, StageResult
from r1rl.stages.trl_bridge import CHECKPOINTS, WarmFirstUpdate, adapters, common_arguments, fit
from r1rl.types import Problem
from r1rl_rewards.reward_model import scored_ids
from r1rl_rewards.texts import summary_of, texts_of

log = logging.getLogger(__name__)

try:
    import datasets
    from trl import RewardConfig as TRLConfig
    from trl import RewardTrainer
except ImportError as error:
    raise ConfigError(f"the reward_model stage needs TRL ({error}); run: pip install 'r1rl[trl]'") from error

NAMES = {
    "loss": "reward_model/loss",
    "learning_rate": "reward_model/lr",
    "grad_norm": "reward_model/grad_norm",
    "accuracy": "reward_model/accuracy",
    "margin": "reward_model/margin",
    "eval_accuracy": "reward_model/held_out_accuracy",
    "eval_margin": "reward_model/held_out_margin",
}
Pair = dict[str, list[int]]


def run(ctx: StageContext) -> StageResult:
    """Train a scorer that starts from the policy ``model.path`` on ``data.train`` and leave it in STAGE/model.

    The score is that of the last token of what ``scored_ids`` of the reward ``reward_model`` writes.
    """
    cfg, settings = ctx.config, ctx.config.reward_model
    tokenizer = load_tokenizer(cfg.model)
    pairs, asked, skipped = read_pairs(ctx, tokenizer)
    is_held = held_out(asked, settings.held_out, cfg.seed)
    train, held = list(compress(pairs, [not each for each in is_held])), list(compress(pairs, is_held))
    arguments = common_arguments(ctx, settings) | {
        "lr_scheduler_type": "linear",
        "max_length": settings.max_tokens,
        "center_rewards_coefficient": settings.center_rewards_coefficient or None,
    }

    def build(callbacks: list[TrainerCallback]) -> RewardTrainer:
        model = _scorer(ctx, tokenizer)
        longest = max(len(ids) for pair in pairs for ids in pair.values())
        check_examples(longest, "reward_model.max_tokens", model)
        return WarmRewardTrainer(
            model=model,
            args=TRLConfig(**arguments),
            train_dataset=datasets.Dataset.from_list(train),
            eval_dataset=datasets.Dataset.from_list(held) if held else None,
            processing_class=tokenizer,
            callbacks=callbacks,
            **adapters(ctx, "SEQ_CLS"),
        )

    metrics: dict[str, Any] = {**fit(ctx, "learning the preference", NAMES, tokenizer, build)}
    tokens = sum(len(ids) for pair in train for ids in pair.values())
    metrics |= {"pairs": len(train), "tokens": round(tokens * settings.epochs)}
    return StageResult(
        model=ctx.folder / "model",
        metrics=metrics | {f"skipped_{why}": count for why, count in skipped.items()},
        spent=ctx.folder / CHECKPOINTS,
    )


class WarmRewardTrainer(WarmFirstUpdate, RewardTrainer):
    """TRL's trainer."""


def held_out(problems: Sequence[Problem], share: float, seed: int) -> list[bool]:
    """Which of the pairs that belong to these problems are held out from training: this share of every source.

    A hash of seed and question chooses. All pairs of a question fall on one side, whichever sources they are in, and
    something of every source that has questions of its own is left to train on.
    """
    questions = [normalized_question(problem) for problem in problems]
    pairs = Counter(questions)
    first: dict[str, str] = {}
    for question, problem in zip(questions, problems, strict=True):
        first.setdefault(question, problem.source)
    sources: dict[str, list[str]] = {}
    for question, source in first.items():
        sources.setdefault(source, []).append(question)
    kept: set[str] = set()
    due = 0.0
    for mine in sources.values():
        size = sum(pairs[question] for question in mine)
        due += size * share
        room = min(round(due), size - 1)
        due -= round(due)  # the rounding error carries over to the next source
        for question in sorted(mine, key=lambda text: hashlib.blake2b(f"{seed} {text}".encode()).digest()):
            if pairs[question] <= room:
                kept.add(question)
                room -= pairs[question]
    return [question in kept for question in questions]


def read_pairs(ctx: StageContext, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Pair], list[Problem], Counter[str]]:
    """Token ids of both texts of every row, in the order of the data, the problem of each, and what was left out.

    Raises: DataError for a row without one of them (unless its source says ``on_bad_row: skip``), for a question that
    is also one of an evaluation set (unless ``data.on_overlap: drop``) and for no pairs.
    """
    cfg, settings = ctx.config, ctx.config.reward_model
    sources = {name: source.model_copy(update={"answer": None}) for name, source in cfg.data.train.items()}
    sets = never_evaluated(load_problems(sources, cfg.data.prompt, tokenizer), cfg.data)
    skipped = sum(sets.skipped.values(), Counter[str]())
    pairs: list[Pair] = []
    asked: list[Problem] = []
    for problem in sets.problems:
        responses = [response_text(problem.columns.get(name)) for name in (settings.chosen, settings.rejected)]
        if None in responses:
            if sources[problem.source].on_bad_row == "error":
                raise DataError(
                    f"data source {problem.source}: a row lacks text in {settings.chosen!r} or {settings.rejected!r}, "
                    f"it has {', '.join(problem.columns)}; set reward_model.chosen and rejected, or on_bad_row: skip"
                )
            skipped["bad_row"] += 1
            continue
        chosen, rejected = (_ids(problem, str(response), settings.part, tokenizer) for response in responses)
        if max(len(chosen), len(rejected)) > settings.max_tokens:
            skipped["too_long"] += 1
        elif chosen == rejected:
            skipped["equal"] += 1
        else:
            pairs.append({"chosen_ids": chosen, "rejected_ids": rejected})
            asked.append(problem)
    if not pairs:
        raise DataError(f"stage {ctx.name} has no pair to learn from; left out: {dict(skipped)}")
    if skipped:
        log.info(f"{ctx.name}: {len(pairs)} pairs; left out: {dict(skipped)}")
    return pairs, asked, skipped


def _ids(problem: Problem, response: str, part: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What is scored: the prompt and all of the response, with what the template pre-filled, or the prompt and what
    follows the thought."""
    said = summary_of(response) if part == "summary" else texts_of([response], [problem.prefill])[0]
    return scored_ids(tokenizer, problem.prompt, said)


def _scorer(ctx: StageContext, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """The policy's body under a fresh head with one output."""
    cfg = ctx.config.model
    torch.manual_seed(ctx.config.seed)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        cfg.path, revision=cfg.revision, trust_remote_code=cfg.trust_remote_code, num_labels=1, dtype=torch.float32
    )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model.config.pad_token_id = pad
    check_saving(model, tokenizer)
    return model
