"""A learned reward: any sequence-classification model with one output (stage 4 of DeepSeek-R1, arXiv 2501.12948)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from r1rl.data.templates import answered
from r1rl.errors import RewardError
from r1rl_rewards.texts import part_of, texts_of


class RewardModel:
    """Scores prompt and completion with a model; higher is better.

    Args:
        model: a folder or name of a sequence-classification model with one label, or such a ``torch.nn.Module``.
        tokenizer: its folder or name; None uses the model's own.
        part: the text to score, the whole ``response`` (harmlessness in the paper) or its final ``summary``
            (helpfulness).
        max_length: in tokens; longer texts keep their end.
        batch_size: texts per forward pass.
        device: None uses this rank's GPU, else the CPU; ``cuda`` without an index is this rank's GPU as well.
        dtype: as in ``from_pretrained``.

    Raises: RewardError for a model that cannot be loaded or has several labels.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: str | None = None,
        part: Literal["response", "summary"] = "response",
        max_length: int = 8192,
        batch_size: int = 8,
        device: str | None = None,
        dtype: str = "auto",
    ) -> None:
        import torch

        self._part, self._max_length, self._batch_size = part, max_length, batch_size
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self._device == torch.device("cuda"):
            self._device = torch.device("cuda", _own_gpu())
        loaded = _load_model(model, dtype) if isinstance(model, str | Path) else model
        self._model = loaded.to(self._device).eval().requires_grad_(False)
        self._tokenizer = _load_tokenizer(tokenizer or model if isinstance(model, str | Path) else tokenizer, loaded)
        if getattr(loaded.config, "pad_token_id", None) is None:
            loaded.config.pad_token_id = self._tokenizer.pad_token_id

    def __call__(
        self, prompts: list[Any], completions: list[Any], prefill: list[str] | None = None, **kwargs: Any
    ) -> list[float]:
        """The model's score of each completion."""
        answers = [part_of(text, self._part) for text in texts_of(completions, prefill)]
        texts = [self._ids(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # texts of similar length share a batch
        scores = [0.0] * len(texts)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            for index, score in zip(batch, self._forward([texts[i] for i in batch]), strict=True):
                scores[index] = score
        return scores

    def _ids(self, prompt: Any, answer: str) -> list[int]:
        return scored_ids(self._tokenizer, prompt, answer, truncation=True, max_length=self._max_length)

    def _forward(self, texts: list[list[int]]) -> list[float]:
        import torch

        def padded(rows: list[torch.Tensor], value: int) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value).to(self._device)

        ids = [torch.tensor(text) for text in texts]
        mask = padded([torch.ones_like(each) for each in ids], 0)
        with torch.inference_mode():
            logits = self._model(input_ids=padded(ids, self._tokenizer.pad_token_id), attention_mask=mask).logits
        if logits.shape[1] != 1:
            raise RewardError(
                f"the reward model has {logits.shape[1]} labels; train or name one with a single label (num_labels=1)"
            )
        scores: list[float] = logits[:, 0].float().tolist()
        return scores


def _own_gpu() -> int:
    """Index of this rank's GPU. An unindexed device is the calling thread's current one, which is the first GPU in new
    threads and processes whatever the rank."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    return torch.cuda.current_device() if local is None else int(local) % torch.cuda.device_count()


def scored_ids(tokenizer: Any, prompt: Any, answer: str, **cut: Any) -> list[int]:
    """Token ids of the text to score, in training and in use: the prompt and the whole answer.

    A conversation is rendered by the chat template, which then decides on every special token; without one, line by
    line. ``cut`` is for the tokenizer. Raises: ModelError for messages that the template rejects.
    """
    if isinstance(prompt, str):
        return list(tokenizer(prompt + answer, **cut)["input_ids"])
    if tokenizer.chat_template is None:
        messages = [*prompt, {"role": "assistant", "content": answer}]
        return list(tokenizer("\n".join(f"{m['role']}: {m['content']}" for m in messages), **cut)["input_ids"])
    return list(tokenizer(answered(tokenizer, prompt, answer), add_special_tokens=False, **cut)["input_ids"])


def _load_model(model: str | Path, dtype: str) -> Any:
    from transformers import AutoModelForSequenceClassification

    try:
        return AutoModelForSequenceClassification.from_pretrained(model, dtype=dtype)
    except (OSError, ValueError) as error:
        raise RewardError(
            f"reward model {str(model)!r} does not load: {error}; "
            "give a folder or name of a sequence-classification model"
        ) from error


def _load_tokenizer(name: Any, model: Any) -> Any:
    from transformers import AutoTokenizer

    place = name or getattr(model.config, "_name_or_path", "")
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, truncation_side="left")
    except (OSError, ValueError) as error:
        raise RewardError(f"no tokenizer for the reward model at {str(place)!r}; name one in args.tokenizer") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
