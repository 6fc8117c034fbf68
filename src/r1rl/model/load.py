"""Loads and saves a policy: any causal language model of transformers, with its tokenizer."""

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
from r1rl.model.mapped import open_mapped
from r1rl.model.place import place, place_buffers, streamed
from r1rl.model.state import named_state
from r1rl.places import require_model, require_tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(slots=True)
class Policy:
    """A model with its tokenizer. Unless a backend decides otherwise, ``model`` holds float32 master weights regardless
    of the precision of the forward passes."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    gather: Callable[[torch.dtype], Iterator[tuple[str, Tensor]]] | None = None
    """Provides the trained weights, see :meth:`weights`, if they are sharded or the model's have lower precision than
    the optimizer's; collective."""
    refresh: Callable[[], None] | None = None
    """Updates ``model`` if it is a copy of sharded weights; collective."""
    mapped: bool = False
    """The weights are still in the checkpoint's files, for a backend to place."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """All token ids that end a completion; see :func:`end_ids`."""
        return end_ids(self.model, self.tokenizer)

    def weights(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[str, Tensor]]:
        """Full weights and persistent buffers under the plain model's names, with adapters merged in, one at a time;
        collective if sharded.

        Args:
            dtype: the precision that the caller needs. With bfloat16 the weights that forward passes use are enough,
                where they are of that precision; the tensors may be more precise.
        """
        if adapted(self.model):
            return merged(self.model)
        return self.gather(dtype) if self.gather else named_state(self.model)

    def save(self, folder: Path, write: bool = True) -> None:
        """Write the Hugging Face format, which transformers and vLLM load.

        If weights are sharded, every rank must call it; those with ``write`` False only take part in the gathering.

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
        """The model, or for adapters one without them, which provides the names and the configuration of the merged
        weights."""
        if not adapted(self.model):
            return self.model
        config = copy.deepcopy(self.model.config)
        vars(config).pop("quantization_config", None)
        with torch.device("meta"):
            plain = type(self.model)(config)
        plain.generation_config = self.model.generation_config
        return plain


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """All token ids that end a response: the generation config's, the tokenizer's end of sequence, and the token with
    which the chat template ends a turn (base models often have a different end of sequence)."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = configured if isinstance(configured, list) else [configured]
    found = [*ids, tokenizer.eos_token_id, *turn_end_ids(tokenizer)[:1]]
    return tuple(sorted({int(i) for i in found if i is not None}))


def end_turns(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the generation config, and thus the saved checkpoint, end completions at the same tokens as training."""
    if model.generation_config is not None and turn_end_ids(tokenizer):
        model.generation_config.eos_token_id = list(end_ids(model, tokenizer))


def check_saving(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write everything except the weights to a temporary folder, to report a model that cannot be saved before
    training.

    Raises:
        ModelError: transformers cannot write this model's configuration or tokenizer.
    """
    with tempfile.TemporaryDirectory(prefix="r1rl-saving-") as folder:
        try:
            model.save_pretrained(folder, state_dict={})
            tokenizer.save_pretrained(folder)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"the model of {model.name_or_path} could not be saved after training, so training did not start: "
                f"{' '.join(str(error).split())[:400]}. Correct its config.json, generation_config.json or tokenizer "
                "files"
            ) from error


def load_tokenizer(cfg: ModelConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer of ``cfg.path``.

    Raises:
        ModelError: it cannot be loaded, or has no end-of-sequence token.
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


def load_policy(cfg: ModelConfig, device: torch.device, adapters_seed: int | None = 0, mapped: bool = False) -> Policy:
    """Load ``cfg.path`` with r1rl's attention and float32 weights on ``device``.

    Args:
        adapters_seed: seed of the adapters of ``cfg.lora``; None loads the model without them, for stages that do not
            train.
        mapped: leave the weights in the checkpoint's files, memory-mapped and in their own dtype, for a backend that
            converts, moves or shards them one at a time (:mod:`r1rl.model.place`). Quantized models are loaded whole
            in any case.

    Raises:
        ModelError: the checkpoint cannot be loaded, or its architecture is not supported.
    """
    tokenizer = load_tokenizer(cfg)
    model = load_model(cfg, device, mapped)
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
    return Policy(model, tokenizer, mapped=mapped and not is_quantized(model))


def load_model(cfg: ModelConfig, device: torch.device, mapped: bool = False) -> PreTrainedModel:
    """The model alone; see :func:`load_policy`."""
    require_model(cfg.path)
    try:
        model = open_mapped(
            AutoModelForCausalLM,
            cfg,
            attn_implementation=register(),
            quantization_config=quantization(cfg.lora, DTYPES[cfg.dtype]),
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"cannot open the model {cfg.path!r}: {first_line(error)}") from error
    keep_layout(model)
    tidy_generation(model)
    if is_quantized(model):
        model.to(device)  # type: ignore[arg-type]
    elif mapped:
        place_buffers(model, device)
        with streamed(model, device):
            check_architecture(model, device)
        return model
    else:
        place(model, device, torch.float32)
    check_architecture(model, device)
    return model


def is_quantized(model: PreTrainedModel) -> bool:
    """Whether some weights are stored in a format of fewer bits, in which they cannot be moved one at a time."""
    return bool(getattr(model, "is_quantized", False))


def train_mode(model: nn.Module) -> None:
    """Training mode, which gradient checkpointing in transformers requires, but without dropout except that of the
    adapters: a policy that computes a different function from the one it sampled with is off-policy from the first
    update."""
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ".lora_dropout." not in name:
            module.p = 0.0


def dropouts(model: nn.Module) -> list[nn.Dropout]:
    """The dropout modules that :func:`train_mode` keeps: those of the adapters."""
    return [module for module in model.modules() if isinstance(module, nn.Dropout) and module.p > 0]


@contextlib.contextmanager
def without_dropout(modules: Sequence[nn.Dropout]) -> Iterator[None]:
    """Inside the block the model computes the function that the policy samples with."""
    was = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, was, strict=True):
            module.train(training)
