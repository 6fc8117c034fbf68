"""Where problems come from, and how a prompt is written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from r1rl.config.base import NameIn, Section
from r1rl.config.published import PRESETS, filled, listed
from r1rl.registry import MAPS, TEMPLATES


class PromptConfig(Section):
    """How a question becomes the text that the policy continues."""

    template: Annotated[str, NameIn(TEMPLATES)] = "r1_zero"
    """r1_zero (plain text), chat (the tokenizer's own), or raw (the question alone). For your own, see
    docs/extending.md."""
    system: str | None = None
    """System message of the chat template; in r1_zero it replaces the opening paragraph."""
    prefill: str | None = None
    """Text already written for the assistant, for example ``<think>\\n``, besides what a chat template itself adds."""
    instruction: str | None = None
    """Line added under every question, for example where to put the answer."""
    max_tokens: int = Field(512, ge=1)
    """Longest prompt, in tokens."""
    too_long: Literal["error", "skip"] = "error"
    """What to do with a longer one: stop, or leave it out and count it."""


class DatasetConfig(Section):
    """One source of problems."""

    preset: str | None = None
    """Name of a published dataset (docs/data.md lists them), which fills the keys that are not written here."""
    path: str = Field(min_length=1)
    """A Hugging Face dataset name, a local .jsonl, .json, .csv, .tsv or .parquet file, a folder, or
    ``generated:NAME``."""
    subset: str | None = None
    """Configuration name on the hub, for example ``main``."""
    split: str = "train"
    """Split to read on the hub or in a folder. A single local file is always one split."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    question: str = "question"
    """Column that holds the question (text, or a list of messages)."""
    question_from: str | None = None
    """Writes the question of a dataset that has none: text in which ``{column}`` stands for that column's value; its
    name may contain any character. Other braces are kept; where a name in braces is meant literally, double them."""
    answer: str | None = "answer"
    """Column that holds the gold answer; it reaches reward functions as ``answer``. None where there is none."""
    answer_pattern: str | None = None
    """Regular expression whose first group is the gold answer inside that column, for example ``#### (.+)``."""
    weight: float = Field(1.0, gt=0)
    """How often prompts are drawn from this source, relative to the others."""
    limit: int | None = Field(None, ge=1)
    """Use only this many rows from the start."""
    skip: int = Field(0, ge=0)
    """Skip this many rows at the start."""
    rewards: list[str] | None = None
    """Names of the rewards that apply to this source; None applies all. One that no source lists is an error."""
    prompt: PromptConfig | None = None
    """Prompt settings of this source alone; None takes the run's."""
    prompts: dict[str, PromptConfig] = Field(default_factory=dict)
    """Prompt settings of the rows whose ``source`` column has this name, as rows of a sample stage do. A stage's
    ``data: ${STAGE.data}`` takes them over from that stage's sources."""
    map: Annotated[str, NameIn(MAPS)] | None = None
    """A function that makes each row from the dataset's: ``path/to/file.py:NAME`` or ``package.module:NAME``, from a
    dictionary of columns to another, or to None to leave the row out (counted as ``mapped_out``)."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a generated source, for example ``size`` and ``seed``."""
    on_bad_row: Literal["error", "skip"] = "error"
    """What to do with a row that cannot be read: stop and name it, or leave it out and count it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        found = filled(given, evaluation=False)
        if isinstance(found, Mapping) and found.get("preset") not in (None, *PRESETS):
            raise ValueError(f"has an unknown preset, {found['preset']!r}; known: {', '.join(PRESETS)}")
        return found

    @field_validator("question_from")
    @classmethod
    def _names_a_column(cls, text: str | None) -> str | None:
        if text is not None and not re.search(r"\{[^{}]+\}", text):
            raise ValueError("names no column, so every question would be the same; write {column}")
        return text

    @field_validator("answer_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        try:
            if pattern is not None and not re.compile(pattern).groups:
                raise ValueError(f"{pattern!r} has no group; put ( ) around the gold answer")
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return pattern


class DifficultyConfig(Section):
    """Keep problems that the starting policy solves sometimes: bounds on its pass rate."""

    min_pass_rate: float = Field(0.0, ge=0, le=1)
    """Leave out problems with a lower pass rate."""
    max_pass_rate: float = Field(1.0, ge=0, le=1)
    """Leave out problems with a higher pass rate."""
    samples: int = Field(8, ge=1)
    """Completions per problem from which the pass rate is measured."""


class DataConfig(Section):
    """Training and evaluation problems."""

    train: dict[str, DatasetConfig] = Field(default_factory=dict)
    """Training sources by name; their weights set the mixture."""
    eval: dict[str, DatasetConfig] = Field(default_factory=dict)
    """Evaluation sources by name; checked to be disjoint from the training ones before the run starts."""
    held_out: dict[str, DatasetConfig] = Field(default_factory=dict)
    """Further sources whose questions are not trained on. A recipe adds the `data.eval` of its other stages."""
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    difficulty: DifficultyConfig | None = None
    on_overlap: Literal["error", "drop"] = "error"
    """A training question that is also an evaluation question: stop, or drop it from training and count it."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_presets(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        out = dict(given)
        for part in ("train", "eval", "held_out"):
            sources = listed(out.get(part))
            if isinstance(sources, Mapping):
                out[part] = {name: filled(source, part != "train") for name, source in sources.items()}
        return out
