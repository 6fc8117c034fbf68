"""Loads and saves a policy: any causal language model of transformers, and its tokenizer."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from r1rl.config.model import ModelConfig
from r1rl.data.templates import turn_end_ids
from r1rl.errors import ModelError, first_line
from r1rl.files import publishing
from r1rl.model.attention import register
from r1rl.model.check import check_architecture
from r1rl.model.generation import tidy_generation
from r1rl.model.lora import adapted, add_adapters, keep_layout, merged, quantization
from r1rl.model.state import named_state
from r1rl.places import require_model, require_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(slots=True)
class Policy:
    """A model with its tokenizer. ``model`` holds float32 master weights whatever the precision of the passes."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    gather: Callable[[], Iterator[tuple[str, Tensor]]] | None = None
    """The trained weights where they are in shards or of lower precision than the optimizer's; collective."""
    refresh: Callable[[], None] | None = None
    """Brings ``model`` up to date where it is a copy of sharded weights; collective."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token id that ends a completion; see :func:`end_ids`."""
        return end_ids(self.model, self.tokenizer)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Whole weights and persistent buffers by the plain model's names, adapters merged in, one at a time;
        collective if sharded."""
        if adapted(self.model):
            return merged(self.model)
        return self.gather() if self.gather else named_state(self.model)

    def save(self, folder: Path, write: bool = True) -> None:
        """Write the Hugging Face format; it opens in plain transformers and in vLLM.

        Every rank calls it where weights are sharded; those with ``write`` False only take part in the gathering.

        Raises:
            ForeignError, StorageError: as :func:`r1rl.files.publishing`.
        """
        state = {name: tensor.detach().cpu() for name, tensor in self.weights() if write}
        if write:
            with publishing(folder) as draft:
                self._plain().save_pretrained(draft, state_dict=state)
                self.tokenizer.save_pretrained(draft)

    def check_saving(self) -> None:
        """See :func:`check_saving`."""
        check_saving(self._plain(), self.tokenizer)

    def _plain(self) -> PreTrainedModel:
        """The model, or one without adapters to take the merged weights' names and configuration from."""
        if not adapted(self.model):
            return self.model
        config = copy.deepcopy(self.model.config)
        vars(config).pop("quantization_config", None)
        with torch.device("meta"):
            plain = type(self.model)(config)
        plain.generation_config = self.model.generation_config
        return plain


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token id that ends a response: the generation config's, the tokenizer's end of sequence, and the token with
    which the chat template ends a turn (base models often have another end of sequence)."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = configured if isinstance(configured, list) else [configured]
    found = [*ids, tokenizer.eos_token_id, *turn_end_ids(tokenizer)[:1]]
    return tuple(sorted({int(i) for i in found if i is not None}))


def end_turns(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have the generation config, and so what is saved, end where completions do in training."""
    if model.generation_config is not None and turn_end_ids(tokenizer):
        model.generation_config.eos_token_id = list(end_ids(model, tokenizer))


def check_saving(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write everything except the weights to a temporary folder, so that a model that cannot be saved is reported
    before training.

    Raises:
        ModelError: transformers does not write this model's configuration or tokenizer.
    """
    with tempfile.TemporaryDirectory(prefix="r1rl-saving-") as folder:
        try:
            model.save_pretrained(folder, state_dict={})
            tokenizer.save_pretrained(folder)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"the model of {model.name_or_path} could not be saved after training, so nothing was trained: "
                f"{' '.join(str(error).split())[:400]}. Correct its config.json, generation_config.json or tokenizer "
                "files"
            ) from error


def load_tokenizer(cfg: ModelConfig) -> PreTrainedTokenizerBase:
    """Open the tokenizer that belongs to ``cfg.path``.

    Raises:
        ModelError: nothing to open, or no end-of-sequence token.
    """
    require_model(cfg.path)
    require_tokenizer(cfg.path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            cfg.path, revision=cfg.revision, trust_remote_code=cfg.trust_remote_code
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"cannot open the tokenizer of {cfg.path!r}: {first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer in {cfg.path!r} has no end-of-sequence token: set eos_token in its config")
    return tokenizer


def load_policy(cfg: ModelConfig, device: torch.device, adapters_seed: int | None = 0) -> Policy:
    """Open ``cfg.path`` with r1rl's attention, float32 weights, on ``device``.

    Args:
        adapters_seed: draws the adapters of ``cfg.lora``; None opens the model without, for stages that do not train.

    Raises:
        ModelError: the checkpoint cannot be opened, or its architecture does something that r1rl does not support.
    """
    tokenizer = load_tokenizer(cfg)
    model = load_model(cfg, device)
    end_turns(model, tokenizer)
    if cfg.lora is not None and adapters_seed is not None:
        add_adapters(model, cfg.lora, adapters_seed)
    if cfg.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if model.get_output_embeddings().weight.shape[0] < len(tokenizer):
        raise ModelError(
            f"{cfg.path}: the tokenizer has {len(tokenizer)} tokens, the model only "
            f"{model.get_output_embeddings().weight.shape[0]}: they do not belong together"
        )
    return Policy(model, tokenizer)


def load_model(cfg: ModelConfig, device: torch.device) -> PreTrainedModel:
    """The model alone; see :func:`load_policy`."""
    require_model(cfg.path)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            cfg.path,
            revision=cfg.revision,
            trust_remote_code=cfg.trust_remote_code,
            dtype=torch.float32,
            attn_implementation=register(),
            quantization_config=quantization(cfg.lora, DTYPES[cfg.dtype]),
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"cannot open the model {cfg.path!r}: {first_line(error)}") from error
    keep_layout(model)
    tidy_generation(model)
    model.to(device)  # type: ignore[arg-type]
    check_architecture(model)
    return model


def train_mode(model: nn.Module) -> None:
    """Training mode, without which transformers ignores gradient checkpointing, but with no dropout except the
    adapters': a policy that computes something else than it sampled with is off-policy from the first update."""
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ".lora_dropout." not in name:
            module.p = 0.0


def dropouts(model: nn.Module) -> list[nn.Dropout]:
    """The dropout that :func:`train_mode` left."""
    return [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]


@contextlib.contextmanager
def without_dropout(modules: Sequence[nn.Dropout]) -> Iterator[None]:
    """The function that the policy samples with, inside."""
    was = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, was, strict=True):
            module.train(training)
