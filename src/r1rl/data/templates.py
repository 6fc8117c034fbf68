"""The prompt templates, one function each: they turn a question into the text that the policy continues.

A template is built once for a tokenizer and its settings, so that errors are found before any row is read; it then
writes one question at a time. Many prompts are tokenized at once. Nothing here depends on a tag such as ``<think>``
being one token: tags are text, which the tokenizer may split.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from r1rl.config.data import PromptConfig
from r1rl.errors import ConfigError, DataError, ModelError
from r1rl.registry import TEMPLATES
from r1rl.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ENCODED_AT_ONCE = 1024  # the tokenizer's result for a prompt is far larger than its ids

Question: TypeAlias = str | list[Message]


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt as text. A plain ``prompt`` followed by ``prefill`` is exactly ``text``."""

    text: str
    prompt: str | list[Message]
    """Passed to reward functions: plain text, or the messages of a conversational prompt; never the prefill."""
    prefill: str
    """Text already written for the assistant; a completion continues it without repeating it."""
    complete: bool = False
    """Whether the text contains all its special tokens, as a chat template writes them; otherwise the tokenizer adds
    them."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as token ids, and as reward functions see it."""

    prompt_ids: tuple[int, ...]
    prompt: str | list[Message]
    prefill: str


PromptWriter: TypeAlias = Callable[[Question], Written]
Template: TypeAlias = "Callable[[PreTrainedTokenizerBase, PromptConfig], PromptWriter]"
"""``(tokenizer, PromptConfig) -> (question -> Written)``; the table is :data:`r1rl.registry.TEMPLATES`."""


def render(question: Question, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> Rendered:
    """One question as a prompt; ``render_all`` does many at once.

    Raises ConfigError for an unknown template or a setting it does not support, ModelError if the tokenizer lacks what
    the template needs, DataError for a question that the template cannot render.
    """
    return render_all([question], tokenizer, config)[0]


def render_all(
    questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase, config: PromptConfig
) -> list[Rendered]:
    """Questions as prompts, in order; tokenized in batches. Errors as in ``render``."""
    write = writer(tokenizer, config)
    written = [write(question) for question in questions]
    same: dict[int, int] = {}  # one object per token id, however many prompts contain it
    rendered: list[Rendered] = []
    for start in range(0, len(written), _ENCODED_AT_ONCE):
        chunk = written[start : start + _ENCODED_AT_ONCE]
        for each, ids in zip(chunk, encode(chunk, tokenizer), strict=True):
            rendered.append(Rendered(tuple(same.setdefault(i, i) for i in ids), each.prompt, each.prefill))
    return rendered


def writer(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> PromptWriter:
    """The configured template, ready to write questions. Raises ConfigError or ModelError, never on a question."""
    template: Template = TEMPLATES.load(config.template)
    return template(tokenizer, config)


def encode(prompts: Sequence[Written], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of whole prompts, with the tokenizer's beginning of a sequence but not its end.

    A beginning-of-sequence token that the text already holds is not added again; an end-of-sequence token that the
    tokenizer would append is omitted, because the policy continues the text.
    """
    if not prompts:
        return []
    lead = _leading_special_ids(tokenizer)
    encoded = tokenizer([each.text for each in prompts], add_special_tokens=False)["input_ids"]
    return [
        ids if each.complete or ids[: len(lead)] == lead else lead + ids
        for each, ids in zip(prompts, encoded, strict=True)
    ]


def _leading_special_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that the tokenizer puts before a sequence, found by tokenizing one."""
    probe = "a"
    plain = tokenizer(probe, add_special_tokens=False)["input_ids"]
    wrapped = tokenizer(probe, add_special_tokens=True)["input_ids"]
    for start in range(len(wrapped) - len(plain) + 1):
        if wrapped[start : start + len(plain)] == plain:
            return list(wrapped[:start])
    return []


# ---------------------------------------------------------------------------------------------------- plain text

R1_ZERO_OPENING = (
    "This is a conversation between a User and an Assistant. The User poses a problem and the Assistant solves it. "
    "The Assistant first reasons through the problem in its own words, and only then states the final answer. "
    "The reasoning stands between <think> and </think>, the final answer between <answer> and </answer>, like this: "
    "<think> the reasoning </think> <answer> the final answer </answer>."
)


def r1_zero(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> PromptWriter:
    """Plain text for a base model, after DeepSeek-R1 (arXiv 2501.12948, table 1), in words of our own.

    ``prompt.system`` replaces the opening paragraph; ``prompt.prefill`` follows ``Assistant:`` verbatim.
    """
    opening = R1_ZERO_OPENING if config.system is None else config.system
    head = f"{opening}\n" if opening else ""

    def write(question: Question) -> Written:
        return _plain(f"{head}User: {_as_text(question, config)}\nAssistant:", config)

    return write


def raw(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> PromptWriter:
    """The question verbatim, followed only by ``prompt.instruction`` and ``prompt.prefill``."""
    if config.system is not None:
        raise ConfigError("the raw template does not use prompt.system; remove it, or use template: chat or r1_zero")

    def write(question: Question) -> Written:
        return _plain(_as_text(question, config), config)

    return write


def _plain(prompt: str, config: PromptConfig) -> Written:
    prefill = config.prefill or ""
    return Written(prompt + prefill, prompt, prefill)


def _as_text(question: Question, config: PromptConfig) -> str:
    if not isinstance(question, str):
        if len(question) != 1 or question[0]["role"] != "user":
            raise DataError(
                f"template {config.template} takes a single question, but this is a conversation of "
                f"{len(question)} messages; use template: chat"
            )
        question = question[0]["content"]
    return _instructed(question, config.instruction)


def _instructed(text: str, instruction: str | None) -> str:
    return f"{text}\n{instruction}" if instruction else text


# ----------------------------------------------------------------------------------------------------------- chat


def chat(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> PromptWriter:
    """The tokenizer's own chat template, with ``prompt.system`` where the row has no system message of its own.

    Text that the template itself writes for the assistant (many reasoning models open ``<think>``) is detected and
    reported as prefill; whatever else ``prompt.prefill`` contains is appended.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template (base models often "
            "have none); set prompt.template to r1_zero, or give the tokenizer a chat_template"
        )
    own = template_prefill(tokenizer, config.system)
    tag = _THINK_TAG_AT_END.search(own)
    if tag and f"<{tag[1]}>" in added(own, config.prefill or ""):
        raise ConfigError(
            f"prompt.prefill {config.prefill!r} opens a second thought: the chat template of "
            f"{tokenizer.name_or_path or 'this model'} already writes {own!r}; remove prompt.prefill"
        )

    def write(question: Question) -> Written:
        messages = _as_messages(question, config.system, config.instruction)
        text = _apply(tokenizer, messages, generation=True)
        prefill = own if text.endswith(own) else ""
        more = added(prefill, config.prefill or "")
        text, prefill = text + more, prefill + more
        return Written(text, messages, prefill, complete=True)

    return write


def added(own: str, prefill: str) -> str:
    """The part of ``prefill`` that ``own``, which the template wrote, does not contain yet; surrounding whitespace is
    ignored.

    A configuration may repeat the template's text, exactly (``<think>``) or with more after it (``<think>Well``).
    """
    begun = own.strip()
    if begun and prefill.lstrip().startswith(begun):
        rest = prefill.lstrip().removeprefix(begun)
        return rest.lstrip() if own[-1].isspace() else rest
    return "" if begun.endswith(prefill.strip()) else prefill


_SENTINEL = "r1rlAssistantTurn"
_THINK_TAG_AT_END = re.compile(r"<(think|thinking|thought|reasoning)>\s*(</\1>\s*)?\Z")
_OPEN_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>(?!.*</\1>)", re.DOTALL)


def template_prefill(tokenizer: PreTrainedTokenizerBase, system: str | None = None) -> str:
    """Text that the chat template writes for the assistant after the turn's header, for example ``<think>\\n``; or
    ``""``.

    The turn that it opens for generation is compared with a past assistant turn of the same conversation: the common
    part is the header, the rest of the first is prefill. A template that renders past turns with their thoughts has it
    in both, so a thinking tag at the very end counts too.
    """
    asked = _as_messages("question", system, None)
    opened = _apply(tokenizer, asked, generation=True)
    tag = _THINK_TAG_AT_END.search(opened)
    start = tag.start() if tag else len(opened)
    later: list[Message] = [{"role": "assistant", "content": _SENTINEL}, {"role": "user", "content": "question"}]
    past = _apply(tokenizer, asked + later, generation=False)
    turn_start = len(_apply(tokenizer, asked, generation=False))
    if _SENTINEL in past:
        shared = _shared_length(opened, past[: past.index(_SENTINEL)])
        if shared > turn_start:
            start = min(start, shared)
    return opened[start:]


def without_thought(prefill: str, response: str) -> str | None:
    """The tag of a thought that ``prefill`` opens while ``response`` has neither its opening nor its closing tag; None
    if there is no such thought."""
    opened = _OPEN_THOUGHT.search(prefill)
    tag = opened[1] if opened else None
    return None if tag is None or f"<{tag}>" in response or f"</{tag}>" in response else tag


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the chat template writes after the assistant's last message; ``""`` without a template."""
    if not getattr(tokenizer, "chat_template", None):
        return ""
    answered = [*_as_messages("question", None, None), {"role": "assistant", "content": _SENTINEL}]
    return _apply(tokenizer, answered, generation=False).partition(_SENTINEL)[2]


def turn_end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens with which the chat template ends the assistant's last turn, in order; ``[]`` if it ends it
    with plain text, and without a template that renders a question and its answer."""
    try:
        end = turn_end(tokenizer).lstrip()
    except (ModelError, ValueError, TypeError):  # the template does not render such messages
        return []
    ids = tokenizer(end, add_special_tokens=False)["input_ids"] if end else []
    added_ids = tokenizer.added_tokens_decoder
    return [int(i) for i in ids if i in added_ids] if ids and ids[0] in added_ids else []


def answered(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], response: str) -> str:
    """A conversation with the assistant's whole response, as text with all special tokens.

    The chat template's output, unless the template shortens the response, as many remove the thought from past turns
    (DeepSeek-R1's): then the response is inserted between the opening and the end of the assistant's turn.
    """
    asked = list(messages)
    written = _apply(tokenizer, [*asked, {"role": "assistant", "content": response}], generation=False)
    if response.strip() in written:
        return written
    opened = _apply(tokenizer, asked, generation=True).removesuffix(template_prefill(tokenizer))
    return opened + response + turn_end(tokenizer)


def _shared_length(a: str, b: str) -> int:
    """Length of the common beginning of two texts, in characters."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _as_messages(question: Question, system: str | None, instruction: str | None) -> list[Message]:
    messages = [{"role": "user", "content": question}] if isinstance(question, str) else [dict(m) for m in question]
    if messages[-1]["role"] != "user":
        raise DataError(f"a conversation must end with a user message, but this one ends with {messages[-1]['role']!r}")
    messages[-1]["content"] = _instructed(messages[-1]["content"], instruction)
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _apply(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, generation: bool) -> str:
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
    except TemplateError as error:
        raise ModelError(
            f"the chat template of {tokenizer.name_or_path or 'this model'} rejects the messages "
            f"{[m['role'] for m in messages]}: {error}; change prompt.system or the template"
        ) from error
    return str(text)
