"""Streams one response at a time from a model on this machine."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
    set_seed,
)

from r1rl.config import ModelConfig, PromptConfig
from r1rl.data.templates import encode, writer
from r1rl.errors import ConfigError, ModelError
from r1rl.model.lengths import positions_of
from r1rl.model.load import end_ids, load_tokenizer
from r1rl.types import Message

_PATIENCE_S = 120.0
"""Longest wait for the next piece of text."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are sampled. ``temperature`` 0 is greedy."""

    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int | None = None


class TextGenerator:
    """Loads the model once; every call continues a conversation.

    A tokenizer with a chat template is prompted by it; one without gets the plain prompt of R1-Zero, which holds a
    single question and no history.

    Raises: ModelError for a model that cannot be opened.
    """

    def __init__(self, model: str, prompt: PromptConfig, sampling: Sampling, device: str = "auto") -> None:
        self.tokenizer = load_tokenizer(ModelConfig(path=model))
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        try:
            self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
            self.model.eval()
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot open the model {model!r}: {error}") from error
        try:
            self.model.to(device)  # type: ignore[arg-type]
        except (RuntimeError, AssertionError) as error:  # no such device, or torch built without it
            reason = textwrap.shorten(str(error), 80, placeholder=" …")
            raise ConfigError(f"--device {device} does not work here ({reason}); use auto, cpu or cuda") from error
        template = "chat" if self.tokenizer.chat_template else prompt.template
        self.remembers = template == "chat"
        self._write = writer(self.tokenizer, prompt.model_copy(update={"template": template}))
        self.sampling = sampling
        if sampling.seed is not None:
            set_seed(sampling.seed)

    def reply(self, messages: list[Message]) -> Iterator[str]:
        """The response to the last message in pieces, what the template pre-fills first. Closing it stops the model.

        It ends where the model's positions do, whatever ``max_new_tokens`` is.

        Raises: ConfigError for a conversation that leaves no position for a response.
        """
        written = self._write(messages if self.remembers else messages[-1]["content"])
        ids = torch.tensor(encode([written], self.tokenizer), device=self.model.device)
        limit = self._limit(ids.shape[1])
        if written.prefill:
            yield written.prefill
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, timeout=_PATIENCE_S, skip_special_tokens=True)
        stop, failures = threading.Event(), list[BaseException]()

        def generate() -> None:
            try:
                cast(Any, self.model).generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_Stopped(stop)]),
                    pad_token_id=self.tokenizer.eos_token_id,
                    **self._options(limit),
                )
            except BaseException as error:  # re-raised in the caller's thread
                failures.append(error)
                streamer.end()

        worker = threading.Thread(target=generate, name="r1rl-chat", daemon=True)
        worker.start()
        try:
            yield from streamer
        finally:
            stop.set()
            worker.join(_PATIENCE_S)
        if failures:
            raise failures[0]

    def _limit(self, prompt: int) -> int:
        """Most tokens of a response after a conversation of ``prompt`` tokens."""
        positions = positions_of(self.model)
        if positions is None:
            return self.sampling.max_new_tokens
        if prompt >= positions:
            raise ConfigError(
                f"the conversation has {prompt} tokens and the model {positions} positions: /new starts another one"
            )
        return min(self.sampling.max_new_tokens, positions - prompt)

    def _options(self, limit: int) -> dict[str, Any]:
        options: dict[str, Any] = {
            "max_new_tokens": limit,
            "eos_token_id": list(end_ids(self.model, self.tokenizer)),
        }
        if self.sampling.temperature == 0:
            return options | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        return options | {
            "do_sample": True,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "top_k": 0,
        }


class _Stopped(StoppingCriteria):
    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device)
