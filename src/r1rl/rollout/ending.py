"""Where completions end, and their text without the ending tokens; the same for every engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from r1rl.data.templates import turn_end_ids
from r1rl.model.load import Policy


@dataclass(frozen=True, slots=True)
class Ending:
    """Made once per policy; its tokenizer decodes the texts."""

    tokenizer: PreTrainedTokenizerBase
    ids: frozenset[int]
    """A completion ends with the first of these tokens."""
    silent: frozenset[int]
    """Where one of these ends a completion, it is not part of the text. Other special tokens are: many tokenizers count
    ``</think>`` among them, and rewards read it."""

    @classmethod
    def of(cls, policy: Policy) -> Ending:
        tokenizer, ids = policy.tokenizer, frozenset(policy.eos_ids)
        around = {tokenizer.bos_token_id, tokenizer.pad_token_id, *turn_end_ids(tokenizer)}
        return cls(tokenizer, ids, ids | {int(i) for i in around if i is not None})

    def text(self, token_ids: Sequence[int]) -> str:
        """The text of a completion; ``token_ids``: [T], with or without a token that ends it."""
        length = len(token_ids)
        while length and int(token_ids[length - 1]) in self.silent:
            length -= 1
        said = [int(i) for i in token_ids[:length]]
        return str(self.tokenizer.decode(said, clean_up_tokenization_spaces=False))
