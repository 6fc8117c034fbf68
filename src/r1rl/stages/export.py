"""A model for others: a folder that transformers and ``vllm serve`` open, with the prompt it was trained on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from r1rl.config import ExportConfig, ModelConfig, PromptConfig
from r1rl.data.templates import R1_ZERO_OPENING
from r1rl.errors import ForeignError, ModelError
from r1rl.files import check_publishable, publishing, workplace
from r1rl.model.generation import tidy_generation
from r1rl.model.load import end_ids, load_tokenizer
from r1rl.stages.base import StageContext, StageResult

log = logging.getLogger(__name__)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def run(ctx: StageContext) -> StageResult:
    """Export ``model.path`` to ``export.folder``, or STAGE/model."""
    cfg = ctx.config
    folder = Path(cfg.export.folder).expanduser() if cfg.export.folder else ctx.folder / "model"
    export_model(cfg.model, cfg.export, cfg.data.prompt, folder, ctx.folder)
    log.info(f"{ctx.name}: {folder} opens in transformers and by: vllm serve {folder}")
    return StageResult(reports={"folder": folder})


def export_model(
    model: ModelConfig, settings: ExportConfig, prompt: PromptConfig, folder: Path, stage: Path | None = None
) -> None:
    """Write weights, tokenizer, generation settings and chat template.

    An earlier export is replaced, other programs' files beside it are kept, any other folder is refused.

    Args:
        stage: the folder RUN/STAGE of the stage that exports; it alone may write inside a run's folder, its own run's.

    Raises:
        ModelError: the model cannot be opened.
        ForeignError: the folder holds what r1rl did not write, the model itself, or the work of a run.
        StorageError: it cannot be written.
    """
    _check_apart(folder, model.path)
    _check_outside_runs(folder, stage)
    check_publishable(folder)
    tokenizer = load_tokenizer(model)
    try:
        policy = AutoModelForCausalLM.from_pretrained(
            model.path,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
            dtype=_DTYPES[settings.dtype],
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot open the model {model.path!r}: {error}") from error
    tidy_generation(policy)
    if settings.chat_template and not tokenizer.chat_template:
        tokenizer.chat_template = as_chat_template(prompt)
    policy.generation_config.eos_token_id = list(end_ids(policy, tokenizer))
    with publishing(folder) as draft:
        policy.save_pretrained(draft, max_shard_size=f"{settings.max_shard_gb}GB")
        tokenizer.save_pretrained(draft)


def _check_apart(folder: Path, source: str) -> None:
    """Raises ForeignError where the model that is exported is inside ``folder`` or contains it."""
    target, model = folder.expanduser().resolve(), Path(source).expanduser().resolve()
    if model.is_dir() and (target.is_relative_to(model) or model.is_relative_to(target)):
        raise ForeignError(f"{folder} is the folder of the model that is exported, or overlaps it; choose another one")


def _check_outside_runs(folder: Path, stage: Path | None) -> None:
    """Raises ForeignError for a folder of a run or inside one, except one that ``stage`` adds to its own run."""
    target, place = folder.expanduser().resolve(), workplace(folder)
    own = (stage.resolve(), stage.resolve().parent) if stage else ()
    if place is not None and (place not in own or target in own):
        raise ForeignError(
            f"{folder} is the folder of a run or a stage, or is inside one ({place}), where r1rl keeps its work; "
            "choose a folder outside of it"
        )


def as_chat_template(prompt: PromptConfig) -> str:
    """The plain-text prompt of R1-Zero as a chat template, past turns without their thoughts.

    A single user message is written exactly as the template ``r1_zero`` or ``raw`` of r1rl writes it.
    """
    raw = prompt.template == "raw"
    opening = R1_ZERO_OPENING if prompt.system is None else prompt.system
    head = _quoted(f"{opening}\n" if opening and not raw else "")
    instruction = _quoted(f"\n{prompt.instruction}" if prompt.instruction else "")
    user = "{{ m['content'] }}" if raw else "{{ 'User: ' + m['content'] }}"
    opened = _quoted(("" if raw else "\nAssistant:") + (prompt.prefill or ""))
    return (
        "{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n' }}"
        f"{{%- else %}}{{{{ {head} }}}}{{%- endif %}}"
        "{%- for m in messages if m['role'] != 'system' %}"
        "{%- if m['role'] == 'user' %}"
        f"{user}{{{{ {instruction} }}}}"
        "{%- else %}{{ '\\nAssistant:' + m['content'].split('</think>')[-1] + '\\n' }}{%- endif %}"
        "{%- endfor %}"
        f"{{%- if add_generation_prompt %}}{{{{ {opened} }}}}{{%- endif %}}"
    )


def _quoted(text: str) -> str:
    """A Jinja string literal. Jinja reads escapes as Python does, so it would not understand JSON's surrogate pairs."""
    return json.dumps(text, ensure_ascii=False)
