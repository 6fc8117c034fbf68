"""What the kinds of stages take, a section each; that of ``grpo`` has a file of its own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from r1rl.config.base import Section
from r1rl.config.data import DatasetConfig
from r1rl.config.model import TinyModelConfig


class PretrainConfig(Section):
    """Builds a tokenizer and a small base model on a generated corpus, so that a run needs no download."""

    former_names: ClassVar = {"lr": "learning_rate"}

    model: TinyModelConfig = Field(default_factory=TinyModelConfig)
    corpus: str = "arithmetic"
    """A registered generated corpus."""
    tokens: int = Field(4_000_000, ge=1000)
    """Tokens to train on."""
    batch_tokens: int = Field(8192, ge=64)
    """Tokens per update."""
    learning_rate: float = Field(3e-3, gt=0)
    """Peak learning rate."""
    warmup_ratio: float = Field(0.02, ge=0, le=1)
    """Fraction of the training that is linear warm-up."""
    weight_decay: float = Field(0.1, ge=0)
    """Weight decay of AdamW, applied to matrices only."""
    corpus_args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the corpus, for example ``{low: 2, high: 4}``: the minimum and maximum number of terms in a sum."""


class SFTConfig(Section):
    """TRL's SFTTrainer on ``data.train``: loss on the response alone, thoughts kept, sequences packed.

    The paper's: 2 to 3 epochs, batch 128, cosine from 5e-5 to a tenth, 32,768 tokens (arXiv 2501.12948).
    """

    former_names: ClassVar = {
        "lr": "learning_rate",
        "lr_schedule": "lr_scheduler_type",
        "batch": "batch_size",
        "micro_batch": "micro_batch_size",
    }

    response: str = "response"
    """Column with the assistant's response, thought and answer in one text."""
    epochs: float = Field(2.0, gt=0)
    """Passes over the data."""
    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate."""
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls."""
    lr_min_ratio: float = Field(0.1, ge=0, le=1)
    """Where the cosine ends, as a fraction of learning_rate."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Fraction of the updates that are linear warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW, applied to matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm are clipped to it."""
    batch_size: int = Field(128, ge=1)
    """Rows per update, over all processes; with packing each row holds up to max_tokens of several examples."""
    micro_batch_size: int = Field(1, ge=1)
    """Rows per forward pass of one process."""
    max_tokens: int = Field(2048, ge=16)
    """Longest example, prompt included; longer ones are left out and counted."""
    packing: bool = True
    """Fill rows with several whole examples, which do not attend to each other."""
    checkpoint_every: int = Field(200, ge=0)
    """Updates between checkpoints; 0 saves none, and a run that is killed restarts the stage."""


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


class RewardModelConfig(Section):
    """TRL's RewardTrainer on ``data.train``: one score for prompt and response, Bradley–Terry loss on pairs.

    The paper's: batch 256, lr 6e-6, 1 epoch, 8,192 tokens (arXiv 2501.12948).
    """

    former_names: ClassVar = {
        "lr": "learning_rate",
        "batch": "batch_size",
        "micro_batch": "micro_batch_size",
        "center": "center_rewards_coefficient",
    }

    chosen: str = "chosen"
    """Column with the better response."""
    rejected: str = "rejected"
    """Column with the worse one."""
    part: Literal["summary", "response"] = "response"
    """What is scored: all of the response (paper: safety), or what follows the thought (paper: helpfulness)."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    learning_rate: float = Field(6e-6, gt=0)
    """Peak learning rate; it falls linearly to 0."""
    warmup_ratio: float = Field(0.03, ge=0, lt=1)
    """Fraction of the updates that are linear warm-up."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW, applied to matrices only."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm are clipped to it."""
    batch_size: int = Field(256, ge=1)
    """Pairs per update, over all processes."""
    micro_batch_size: int = Field(8, ge=1)
    """Pairs per forward pass of one process."""
    max_tokens: int = Field(8192, ge=16)
    """Longest prompt with response; pairs with a longer one are left out and counted."""
    held_out: float = Field(0.1, ge=0, lt=1)
    """Share of the pairs of every source kept from training to measure how often the model agrees with them; a hash of
    ``seed`` and question chooses, and pairs of one question stay together."""
    center_rewards_coefficient: float = Field(0.0, ge=0)
    """Weight of the term that pulls the mean score towards 0 (arXiv 2312.09244, eq. 2; 0.01 is usual); 0 is off."""
    checkpoint_every: int = Field(200, ge=0)
    """Updates between checkpoints; 0 saves none."""


class EvaluateConfig(Section):
    """pass@1 over k samples, pass@k and majority vote (paper: T 0.6, top-p 0.95, k 16 to 64)."""

    former_names: ClassVar = {"batch": "batch_size"}

    samples: int = Field(8, ge=1)
    """Completions per problem, k."""
    temperature: float = Field(0.6, ge=0)
    """0 is greedy."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Sample from the most probable tokens whose probabilities add up to this."""
    top_k: int = Field(0, ge=0)
    """Sample from the k most probable tokens; 0 is off."""
    max_new_tokens: int | None = Field(None, ge=1)
    """None takes the rollout's."""
    reward: str = "accuracy"
    """Reward that decides whether a completion is correct: above 0.5."""
    batch_size: int = Field(256, ge=1)
    """Sequences an evaluation stage decodes at once; evaluations during training use rollout.max_concurrent."""
    show: int = Field(3, ge=0)
    """Completions printed at the end, before and after."""


class ExportConfig(Section):
    """A folder that transformers and ``vllm serve`` open."""

    folder: str | None = None
    """Where to write it; None takes RUN/STAGE/model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    """Precision of the weights on disk."""
    chat_template: bool = True
    """If the tokenizer has no chat template, add one that writes the prompts used in training."""
    max_shard_gb: float = Field(5.0, gt=0)
    """Size limit of each weight file, GB."""
