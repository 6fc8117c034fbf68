"""Rejection sampling: which samples are drawn and kept."""

from __future__ import annotations

from pydantic import Field

from r1rl.config.base import Section
from r1rl.config.data import DatasetConfig


def _accuracy() -> dict[str, float]:
    return {"accuracy": 0.5}


class LanguageFilterConfig(Section):
    """Drop responses that are not almost entirely in one language."""

    target: str | None = None
    """Language code, for example ``en``; None accepts any one of ``among``."""
    among: list[str] = Field(["en", "zh"])
    """Languages that a response may be in where there is no target."""
    min_share: float = Field(0.95, ge=0, le=1)
    """Share of the words that must be in that language."""


class FilterConfig(Section):
    """Rules on the text of a sample, after its rewards accepted it. None switches one off.

    In scripts without spaces between words (Chinese, Japanese, Thai, …) two characters count as one word.
    """

    truncated: bool = True
    """Drop samples cut at the length limit."""
    thought: bool = True
    """Drop samples without exactly one closed thought and something after it."""
    language: LanguageFilterConfig | None = Field(default_factory=LanguageFilterConfig)
    max_paragraph_words: int | None = Field(400, ge=1)
    """Drop samples with a longer paragraph (paper: long paragraphs)."""
    code_blocks: bool = True
    """Drop samples with a fenced block of code."""
    max_repetition: float | None = Field(0.3, ge=0, le=1)
    """Drop samples in which a larger share of the word 8-grams are repetitions."""
    min_tokens: int = Field(0, ge=0)
    """Drop shorter samples."""


class RewriteConfig(Section):
    """Have an OpenAI-compatible endpoint rewrite each kept sample for readability; it is verified again afterwards."""

    url: str = Field(min_length=1)
    """Base address, for example ``http://localhost:8000/v1``."""
    model: str = Field(min_length=1)
    """Name of the model at the endpoint."""
    instruction: str = (
        "Rewrite the response below so that its reasoning is easy to follow: complete sentences, one language, no "
        "repetition. Keep the tags <think>, </think>, <answer> and </answer>, every step, and the final answer."
    )
    """The instruction, placed before the question and the response."""
    api_key_env: str | None = None
    """Environment variable that holds the API key."""
    temperature: float = Field(0.3, ge=0)
    """Sampling temperature at the endpoint."""
    max_tokens: int = Field(4096, ge=1)
    """Longest rewriting."""
    timeout_s: float = Field(120.0, gt=0)
    """Deadline for one rewriting."""
    retries: int = Field(3, ge=0)
    """Further attempts; after them the sample is dropped as ``rewrite``."""
    concurrent: int = Field(8, ge=1)
    """Concurrent requests."""


class SampleConfig(Section):
    """N samples per problem of ``data.train``, verified, filtered, deduplicated, balanced and decontaminated."""

    samples: int = Field(4, ge=1)
    """Completions per problem."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the most probable tokens whose probabilities add up to this."""
    max_new_tokens: int | None = Field(None, ge=1)
    """None takes the rollout's."""
    keep: dict[str, float] = Field(default_factory=_accuracy)
    """A sample is kept if each of these rewards that applies to it is above its bound; one whose source has none
    of them is dropped as unverified."""
    filters: FilterConfig = Field(default_factory=FilterConfig)
    rewrite: RewriteConfig | None = None
    deduplicate: bool = True
    """Drop a response that the same question already has, ignoring whitespace and case."""
    decontaminate: int = Field(10, ge=0)
    """Drop rows that share this many consecutive words with a problem of any evaluation set of the run, or contain a
    shorter problem entirely (paper: 10); 0 is off."""
    per_problem: int | None = Field(None, ge=1)
    """Rows kept per problem, shortest first, so that easy problems do not dominate."""
    limits: dict[str, int] = Field(default_factory=dict)
    """Rows kept per source, those of the rarest problems first."""
    mix: dict[str, DatasetConfig] = Field(default_factory=dict)
    """Sources whose rows have a response already, added after keep and filters; they are decontaminated, too."""
    response: str = "response"
    """Column of that response."""
