"""Tokenizers small enough to build in a test; no network."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXT = [
    "This is a conversation between a User and an Assistant about a problem and its answer.",
    "User: How many apples are 3 + 4? Assistant: <think> 3 + 4 = 7 </think> <answer> 7 </answer>",
]


def build_tokenizer(
    *, bos: bool = False, eos_after: bool = False, template: str | None = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE to which no tag is a single token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(TEXT, trainer)
    if bos or eos_after:
        single = f"{'<s> ' if bos else ''}$A{' </s>' if eos_after else ''}"
        core.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer():
    """A fresh tokenizer each call: ``make_tokenizer(bos=False, eos_after=False, template=None)``."""
    return build_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Adds no special tokens, has no chat template: what a Qwen base model has."""
    return build_tokenizer()
