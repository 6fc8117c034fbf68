"""Adjusts a checkpoint's generation settings so that transformers can save them again."""

from __future__ import annotations

import copy
from typing import Any

from transformers import GenerationConfig, PreTrainedModel

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Settings that transformers refuses to save unless ``do_sample`` is on."""


def tidy_generation(model: PreTrainedModel) -> None:
    """Replace the model's generation settings by settings that :meth:`save_pretrained` accepts.

    transformers reads a ``generation_config.json`` with a temperature and no ``do_sample`` (many published checkpoints
    have one), but refuses to write it. A temperature implies sampling, so ``do_sample`` is switched on, as publishers
    did in their own corrections; if the file sets ``do_sample: false``, the settings without effect are dropped. If the
    result is still refused, only the token ids are kept.
    """
    config: Any = model.generation_config if model.can_generate() else None
    if config is None or accepted(config):
        return
    attempts = [_sampling(config), _greedy(config)]
    if config.do_sample is False:
        attempts.reverse()
    kept = [attempt for attempt in attempts if accepted(attempt)]
    model.generation_config = kept[0] if kept else _ids_only(config)


def accepted(config: GenerationConfig) -> bool:
    """Whether transformers would save these settings."""
    try:
        config.validate(strict=True)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _sampling(config: GenerationConfig) -> GenerationConfig:
    changed = copy.deepcopy(config)
    changed.do_sample = True
    return changed


def _greedy(config: GenerationConfig) -> GenerationConfig:
    changed, blank = copy.deepcopy(config), GenerationConfig()
    for name in _SAMPLING:
        setattr(changed, name, getattr(blank, name, None))
    return changed


def _ids_only(config: GenerationConfig) -> GenerationConfig:
    kept = {name: getattr(config, name, None) for name in _IDS}
    if isinstance(kept["pad_token_id"], int) and kept["pad_token_id"] < 0:
        kept["pad_token_id"] = None
    return GenerationConfig(**kept)
