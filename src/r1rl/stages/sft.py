"""Supervised fine-tuning by TRL: cold start, the restart from the base model, distillation."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback

from r1rl.data.overlap import never_evaluated
from r1rl.data.problems import load_problems, response_text
from r1rl.data.templates import turn_end, without_thought
from r1rl.errors import ConfigError, DataError
from r1rl.model.attention import Packed
from r1rl.model.lengths import check_examples
from r1rl.model.load import load_policy
from r1rl.stages.base import StageContext, StageResult
from r1rl.stages.trl_bridge import CHECKPOINTS, WarmFirstUpdate, adapters, common_arguments, fit
from r1rl.types import Problem

log = logging.getLogger(__name__)

try:
    import datasets
    from trl import SFTConfig as TRLConfig
    from trl import SFTTrainer
except ImportError as error:
    raise ConfigError(f"the sft stage needs TRL ({error}); run: pip install 'r1rl[trl]'") from error

NAMES = {
    "loss": "sft/loss",
    "learning_rate": "sft/lr",
    "grad_norm": "sft/grad_norm",
    "mean_token_accuracy": "sft/token_accuracy",
}
SCHEDULES = {"cosine": "cosine_with_min_lr", "linear": "linear", "constant": "constant_with_warmup"}
Example = dict[str, list[int]]


def run(ctx: StageContext) -> StageResult:
    """Fine-tune ``model.path`` on ``data.train`` and leave it in STAGE/model."""
    cfg, settings = ctx.config, ctx.config.sft
    plain = cfg.model.model_copy(update={"lora": None})  # TRL adds the adapters, so that its checkpoints know them
    policy = load_policy(plain, ctx.accelerator.device)
    policy.check_saving()
    examples, skipped = read_examples(ctx, policy.tokenizer)
    check_examples(max(len(example["input_ids"]) for example in examples), "sft.max_tokens", policy.model)
    arguments = common_arguments(ctx, settings) | {
        "lr_scheduler_type": SCHEDULES[settings.lr_scheduler_type],
        "packing": settings.packing,
        "max_length": settings.max_tokens if settings.packing else None,
        "padding_free": True,
    }
    if settings.lr_scheduler_type == "cosine":
        arguments["lr_scheduler_kwargs"] = {"min_lr_rate": settings.lr_min_ratio}

    def build(callbacks: list[TrainerCallback]) -> SFTTrainer:
        return PackedTrainer(
            model=policy.model,
            args=TRLConfig(**arguments),
            train_dataset=datasets.Dataset.from_list(examples),
            processing_class=policy.tokenizer,
            callbacks=callbacks,
            **adapters(ctx, "CAUSAL_LM"),
        )

    figures = fit(ctx, "fine-tuning", NAMES, policy.tokenizer, build)
    tokens = sum(len(example["input_ids"]) for example in examples)
    return StageResult(
        model=ctx.folder / "model",
        metrics={
            **figures,
            "examples": len(examples),
            "tokens": round(tokens * settings.epochs),
            **{f"skipped_{reason}": count for reason, count in skipped.items()},
        },
        spent=ctx.folder / CHECKPOINTS,
    )


def read_examples(ctx: StageContext, tokenizer: PreTrainedTokenizerBase) -> tuple[list[Example], Counter[str]]:
    """Prompt and response of every row as ``input_ids`` and ``labels`` (−100 on the prompt), and what was left out.

    Raises: DataError for a row without response (unless its source says ``on_bad_row: skip``), for a question that is
    also one of an evaluation set (unless ``data.on_overlap: drop``) and for no rows at all.
    """
    cfg, settings = ctx.config, ctx.config.sft
    sources = {name: source.model_copy(update={"answer": None}) for name, source in cfg.data.train.items()}
    sets = never_evaluated(load_problems(sources, cfg.data.prompt, tokenizer, settings.response), cfg.data)
    skipped = sum(sets.skipped.values(), Counter[str]())
    examples: list[Example] = []
    empty_thoughts = 0
    end = turn_end(tokenizer) if any(not isinstance(problem.prompt, str) for problem in sets.problems) else ""
    for problem in sets.problems:
        response = response_text(problem.columns.get(settings.response))
        if response is None:
            _bad_row(problem, settings.response, sources[problem.source].on_bad_row, skipped)
            continue
        example = encode(problem, response, tokenizer, end)
        if len(example["input_ids"]) <= settings.max_tokens:
            examples.append(example)
            empty_thoughts += without_thought(problem.prefill, response) is not None
        else:
            skipped["too_long"] += 1
    if not examples:
        raise DataError(f"stage {ctx.name} has no example to learn from; left out: {dict(skipped)}")
    if empty_thoughts:
        log.info(f"{ctx.name}: {empty_thoughts} responses have no thought; they close an empty one")
    if skipped:
        log.info(f"{ctx.name}: {len(examples)} examples; left out: {dict(skipped)}")
    return examples, skipped


def encode(problem: Problem, response: str, tokenizer: PreTrainedTokenizerBase, end: str = "") -> Example:
    """One example. Text that the template pre-filled and the response repeats occurs once; a response without a
    thought, after a template that opens one, first closes an empty thought, as Qwen3's template writes it.

    It ends with the tokenizer's end of sequence; after a conversation as the chat template ends the assistant's turn
    (``end``), which is learnt up to the end of sequence, and followed by it where the template has none.
    """
    response = _continuation(problem.prefill, response)
    eos = tokenizer.eos_token_id
    closing = [] if isinstance(problem.prompt, str) else tokenizer(end, add_special_tokens=False)["input_ids"]
    closing = closing if eos in closing else [*closing, eos]
    after = closing[closing.index(eos) + 1 :]
    said = [*tokenizer(response, add_special_tokens=False)["input_ids"], *closing[: len(closing) - len(after)]]
    return {
        "input_ids": [*problem.prompt_ids, *said, *after],
        "labels": [-100] * len(problem.prompt_ids) + said + [-100] * len(after),
    }


def _continuation(prefill: str, response: str) -> str:
    """The response as it continues ``prefill``."""
    tag = without_thought(prefill, response)
    if tag is not None:
        blank = "\n" if prefill.endswith("\n") else "\n\n"
        return f"{blank}</{tag}>\n\n{response.lstrip()}"
    if prefill and response.startswith(prefill):
        return response.removeprefix(prefill)
    if prefill.strip() and response.lstrip().startswith(prefill.strip()):
        return response.lstrip().removeprefix(prefill.strip())
    return response


class PackedTrainer(WarmFirstUpdate, SFTTrainer):
    """TRL's trainer; r1rl's attention keeps the examples of a packed row apart on every device."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As in TRL, plus the layout of the row."""
        starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
        ends = [*starts[1:], inputs["position_ids"].shape[1]]
        lengths = tuple(end - start for start, end in zip(starts, ends, strict=True))
        inputs = {**inputs, "layout": Packed(lengths)}
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[no-untyped-call]  # TRL


def _bad_row(problem: Problem, column: str, on_bad_row: str, skipped: Counter[str]) -> None:
    if on_bad_row == "error":
        raise DataError(
            f"data source {problem.source}: a row has no text in column {column!r} (it has "
            f"{', '.join(problem.columns)}); set sft.response to the right column, or on_bad_row: skip"
        )
    skipped["bad_row"] += 1
