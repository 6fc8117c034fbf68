"""Published datasets by name: the keys of :class:`r1rl.config.data.DatasetConfig` that read them, and results.

``data.eval: [math500, aime24]`` and ``data.train.mine.preset: gsm8k`` take the keys from here; keys written beside
``preset`` take precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    """How one published dataset is read."""

    about: str
    """What it is, for docs/data.md."""
    keys: Mapping[str, Any]
    """Keys of a source under ``data.train``."""
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    """Keys that differ under ``data.eval`` and ``data.held_out``."""
    reward: str | None = "accuracy"
    """The reward function that decides whether a completion is correct; None where r1rl has none."""

    def source(self, evaluation: bool) -> dict[str, Any]:
        """The keys of a source, for training or for evaluation."""
        return {**self.keys, **(self.evaluation if evaluation else {})}


_COUNTDOWN = (
    "Using the numbers {nums}, write an expression that equals {target}. Use each number exactly once, with + - * / "
    "and brackets as you like, for example (1 + 2) / 3. Give the expression alone as the final answer."
)

_COMPLETE = (
    "Complete this function. Write it whole, with the imports that it needs, in one ```python block.\n\n{prompt}"
)
_PROGRAM = (
    "\n\nWrite a Python program in one ```python block. It reads from stdin and writes to stdout; where a function or "
    "a class is asked for, write that instead."
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "gsm8k": Preset(
            "grade-school word problems, 7,473 to train on and 1,319 to test on",
            {"path": "openai/gsm8k", "subset": "main", "split": "train", "answer_pattern": "#### (.+)"},
            {"split": "test"},
        ),
        "math": Preset(
            "competition mathematics, 7,500 to train on and 5,000 to test on; the gold is the solution's box",
            {"path": "DigitalLearningGmbH/MATH-lighteval", "question": "problem", "answer": "solution"},
            {"split": "test"},
        ),
        "math500": Preset(
            "500 test problems of MATH, which the train split of `math` does not contain",
            {"path": "HuggingFaceH4/MATH-500", "split": "test", "question": "problem"},
        ),
        "aime24": Preset(
            "30 problems of AIME 2024",
            {"path": "HuggingFaceH4/aime_2024", "question": "problem"},
        ),
        "aime25": Preset(
            "30 problems of AIME 2025",
            {"path": "math-ai/aime25", "split": "test", "question": "problem"},
        ),
        "dapo_math": Preset(
            "DAPO-Math-17k without its repetitions; all answers are integers",
            {"path": "open-r1/DAPO-Math-17k-Processed", "subset": "all", "question": "prompt", "answer": "solution"},
        ),
        "deepscaler": Preset(
            "about 40,000 problems of AIME, AMC, Omni-MATH and STILL",
            {"path": "agentica-org/DeepScaleR-Preview-Dataset", "question": "problem"},
        ),
        "openr1_math": Preset(
            "OpenR1-Math-220k: problems of NuminaMath 1.5 with DeepSeek-R1's verified solutions",
            {"path": "open-r1/OpenR1-Math-220k", "subset": "default", "question": "problem"},
        ),
        "big_math": Preset(
            "Big-Math: over 250,000 problems with a closed answer; gated on the hub",
            {"path": "SynthLabsAI/Big-Math-RL-Verified", "question": "problem"},
        ),
        "countdown": Preset(
            "TinyZero's Countdown: trained on the first 327,680 rows, tested on 512 of those that follow",
            {
                "path": "Jiayi-Pan/Countdown-Tasks-3to4",
                "question_from": _COUNTDOWN,
                "answer": "target",
                "limit": 327_680,
            },
            {"skip": 327_680, "limit": 512},
            reward="countdown",
        ),
        "svamp": Preset(
            "one-step word problems, 700 to train on and 300 to test on",
            {
                "path": "ChilleD/SVAMP",
                "question_from": "{Body} {Question}",
                "answer": "Answer",
            },
            {"split": "test"},
        ),
        "gpqa": Preset(
            "GPQA diamond: 198 graduate-level questions with four choices, in an order that a hash of the question "
            "decides; gated on the hub",
            {"path": "Idavidrein/gpqa", "subset": "gpqa_diamond", "map": "gpqa"},
        ),
        "mmlu_pro": Preset(
            "MMLU-Pro: 12,032 questions with up to ten choices; 70 to train on, its validation split",
            {"path": "TIGER-Lab/MMLU-Pro", "split": "validation", "map": "mmlu_pro"},
            {"split": "test"},
        ),
        "ifeval": Preset(
            "541 prompts of IFEval, with the columns `instruction_id_list` and `kwargs` for a reward of your own",
            {"path": "google/IFEval", "question": "prompt", "answer": None},
            reward=None,
        ),
        "humaneval": Preset(
            "HumanEval: 164 Python functions with their tests",
            {
                "path": "openai/openai_humaneval",
                "split": "test",
                "question_from": _COMPLETE,
                "answer": None,
            },
            reward="code",
        ),
        "mbpp": Preset(
            "MBPP: short Python functions, 374 to train on and 500 to test on; the prompt shows the first of three "
            "tests",
            {"path": "google-research-datasets/mbpp", "subset": "full", "map": "mbpp", "answer": None},
            {"split": "test"},
            reward="code",
        ),
        "taco": Preset(
            "problems of TACO with verified solutions, as DeepCoder trained on",
            {
                "path": "agentica-org/DeepCoder-Preview-Dataset",
                "subset": "taco",
                "question_from": "{problem}" + _PROGRAM,
                "answer": None,
            },
            reward="code",
        ),
        "deepcoder": Preset(
            "problems of SYNTHETIC-1 with verified solutions, as DeepCoder trained on",
            {
                "path": "agentica-org/DeepCoder-Preview-Dataset",
                "subset": "primeintellect",
                "question_from": "{problem}" + _PROGRAM,
                "answer": None,
            },
            reward="code",
        ),
        "livecodebench": Preset(
            "LiveCodeBench, code generation (lite): problems of LeetCode, AtCoder and Codeforces, with private tests",
            {
                "path": "livecodebench/code_generation_lite",
                "split": "test",
                "revision": "refs/pr/6",
                "question_from": "{question_content}\n\n{starter_code}" + _PROGRAM,
                "answer": None,
            },
            reward="code",
        ),
        "code_contests": Preset(
            "CodeContests: 13,328 problems to train on and 165 to test on, with public, private and generated tests",
            {
                "path": "deepmind/code_contests",
                "question_from": "{description}" + _PROGRAM,
                "answer": None,
            },
            {"split": "test"},
            reward="code",
        ),
        "verifiable_coding": Preset(
            "open-r1's verifiable coding problems: about 36,000, mostly of APPS, TACO and Codeforces",
            {
                "path": "open-r1/verifiable-coding-problems-python",
                "question_from": "{problem_statement}" + _PROGRAM,
                "answer": None,
            },
            reward="code",
        ),
    }
)
"""By name, as in ``data.eval: [math500]`` and ``preset: math500``."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published pass@1, in percent, and where."""

    value: float
    where: str


_R1 = "arXiv 2501.12948"
_ZOO = "arXiv 2503.18892"
RESULTS: Mapping[tuple[str, str], Published] = MappingProxyType(
    {
        (model, dataset): Published(value, where)
        for model, where, values in (
            ("deepseek-r1-distill-qwen-1.5b", _R1, {"aime24": 28.9, "math500": 83.9, "gpqa": 33.8}),
            ("deepseek-r1-distill-qwen-7b", _R1, {"aime24": 55.5, "math500": 92.8, "gpqa": 49.1}),
            ("deepseek-r1-distill-qwen-14b", _R1, {"aime24": 69.7, "math500": 93.9, "gpqa": 59.1}),
            ("deepseek-r1-distill-qwen-32b", _R1, {"aime24": 72.6, "math500": 94.3, "gpqa": 62.1}),
            ("deepseek-r1-distill-llama-8b", _R1, {"aime24": 50.4, "math500": 89.1, "gpqa": 49.0}),
            ("deepseek-r1-distill-llama-70b", _R1, {"aime24": 70.0, "math500": 94.5, "gpqa": 65.2}),
            ("deepseek-r1", _R1, {"aime24": 79.8, "math500": 97.3, "gpqa": 71.5}),
            ("qwen2.5-0.5b", _ZOO, {"gsm8k": 36.7, "math500": 15.8}),
            ("qwen2.5-1.5b", _ZOO, {"gsm8k": 55.7, "math500": 29.6}),
        )
        for dataset, value in values.items()
    }
)
"""Published pass@1 by model, as the last part of its name on the hub in lower case, and preset."""


def published(model: str, dataset: str) -> Published | None:
    """The published result of a model on a preset; None where this table has none."""
    return RESULTS.get((model.rstrip("/").rpartition("/")[2].lower(), dataset))


def listed(value: Any) -> Any:
    """``[math500, aime24]`` written out as sources, each named after its preset; anything else unchanged."""
    if isinstance(value, str) and value in PRESETS:
        value = [value]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return {name: {"preset": name} for name in value}
    return value


def filled(source: Any, evaluation: bool) -> Any:
    """A source with the keys of its preset under those that are written; unchanged without a known preset."""
    if not isinstance(source, Mapping) or source.get("preset") not in PRESETS:
        return source
    return {**PRESETS[source["preset"]].source(evaluation), **source}
