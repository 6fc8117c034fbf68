"""Every preset of a published dataset reads rows in that dataset's own columns (the contents are ours)."""

from __future__ import annotations

from typing import Any

import pytest

from r1rl.config.base import explicit
from r1rl.config.data import DataConfig, DatasetConfig, PromptConfig
from r1rl.config.load import load_config
from r1rl.config.published import PRESETS, published
from r1rl.data.problems import load_problems
from r1rl.errors import ConfigError, DataError
from r1rl.programs.formats import read_tests
from r1rl.scoring.load import REWARDS

ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "Ann has 3 pens and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"},
    "math": {
        "problem": "Compute $1 - \\frac{1}{2}$.",
        "level": "Level 1",
        "type": "Algebra",
        "solution": "It is $\\boxed{\\frac{1}{2}}$.",
    },
    "math500": {
        "problem": "Compute $2^3$.",
        "solution": "It is $\\boxed{8}$.",
        "answer": "8",
        "subject": "Algebra",
        "level": 1,
        "unique_id": "test/algebra/0.json",
    },
    "aime24": {
        "id": 60,
        "problem": "Find the remainder of $7$ by $4$.",
        "solution": "It is $\\boxed{003}$.",
        "answer": "003",
        "url": "https://example.com",
        "year": "2024",
    },
    "aime25": {"problem": "Find $5 + 6$.", "answer": "11", "id": "0"},
    "dapo_math": {
        "prompt": "What is $4 \\cdot 5$?",
        "solution": "20",
        "data_source": "math_dapo",
        "source_prompt": [{"role": "user", "content": "Solve … What is $4 \\cdot 5$?"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": "20", "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "0"},
    },
    "deepscaler": {"problem": "Solve $x - 2 = 0$.", "answer": "2", "solution": "Add $2$."},
    "openr1_math": {
        "problem": "What is $9 - 1$?",
        "solution": "Eight.",
        "answer": "8",
        "problem_type": "Algebra",
        "question_type": "math-word-problem",
        "source": "olympiads",
        "uuid": "0",
        "is_reasoning_complete": [True],
        "generations": ["<think>9 - 1</think> 8"],
        "correctness_math_verify": [True],
        "correctness_llama": None,
        "finish_reasons": None,
        "correctness_count": 1,
        "messages": [{"content": "What is $9 - 1$?", "role": "user"}, {"content": "8", "role": "assistant"}],
    },
    "big_math": {
        "problem": "What is $6/3$?",
        "answer": "2",
        "source": "orca_math",
        "domain": ["Mathematics -> Prealgebra"],
        "llama8b_solve_rate": 0.9,
    },
    "countdown": {"target": 36, "nums": [79, 17, 60]},
    "svamp": {
        "ID": "chal-1",
        "Body": "Tom has 8 apples and eats 3.",
        "Question": "How many are left?",
        "Equation": "( 8.0 - 3.0 )",
        "Answer": "5",
        "Type": "Subtraction",
        "question_concat": "Tom has 8 apples and eats 3. How many are left?",
    },
    "gpqa": {
        "Record ID": "rec1",
        "Question": "Which is a noble gas?",
        "Correct Answer": "argon\n",
        "Incorrect Answer 1": "oxygen",
        "Incorrect Answer 2": "iron",
        "Incorrect Answer 3": "boron",
        "Subdomain": "Chemistry (general)",
        "High-level domain": "Chemistry",
    },
    "mmlu_pro": {
        "question_id": 70,
        "question": "Which number is prime?",
        "options": ["4", "6", "7", "8", "9", "10", "12", "14", "15", "16"],
        "answer": "C",
        "answer_index": 2,
        "cot_content": "",
        "category": "math",
        "src": "ours",
    },
    "ifeval": {
        "key": 1000,
        "prompt": "Write two lines without commas.",
        "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None}],
    },
    "humaneval": {
        "task_id": "HumanEval/900",
        "prompt": 'def add(a, b):\n    """Add."""\n',
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
        "entry_point": "add",
    },
    "mbpp": {
        "task_id": 900,
        "text": "Write a function to add.",
        "code": "def add(a, b):\n    return a + b",
        "test_list": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"],
        "test_setup_code": "",
        "challenge_test_list": [],
    },
    "taco": {
        "problem": "Add two numbers.",
        "tests": '{"inputs": ["1 2"], "outputs": ["3"]}',
        "solutions": ["print(sum(map(int, input().split())))"],
    },
    "deepcoder": {
        "problem": "Add two numbers.",
        "solutions": ["print(sum(map(int, input().split())))"],
        "tests": '[{"type": "stdin_stdout", "input": "1 2", "output": "3"}]',
    },
    "livecodebench": {
        "question_title": "Add",
        "question_content": "Add two numbers.",
        "platform": "atcoder",
        "question_id": "abc900_a",
        "contest_id": "abc900",
        "contest_date": "2025-01-04T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": '[{"input": "1 2", "output": "3", "testtype": "stdin"}]',
        "private_test_cases": '[{"input": "2 2", "output": "4", "testtype": "stdin"}]',
        "metadata": "{}",
    },
    "code_contests": {
        "name": "900_A. Add",
        "description": "Add two numbers.",
        "public_tests": {"input": ["1 2\n"], "output": ["3\n"]},
        "private_tests": {"input": ["2 2\n"], "output": ["4\n"]},
        "generated_tests": {"input": [], "output": []},
        "source": 2,
        "difficulty": 7,
        "time_limit": {"seconds": 2, "nanos": 0},
        "memory_limit_bytes": 256000000,
    },
    "verifiable_coding": {
        "source": "apps",
        "task_type": "verifiable_code",
        "in_source_id": "900",
        "problem_statement": "Add two numbers.",
        "gold_standard_solution": "print(sum(map(int, input().split())))",
        "problem_id": "vfc_900",
        "metadata": {"difficulty": "introductory", "memory_limit": None, "time_limit": None},
        "verification_info": {
            "language": "python",
            "test_cases": [{"fn_name": None, "input": "1 2\n", "output": "3\n", "type": "stdin_stdout"}],
        },
    },
}
GOLDS = {
    "gsm8k": "7",
    "math": "It is $\\boxed{\\frac{1}{2}}$.",  # the accuracy reward reads the box
    "math500": "8",
    "aime24": "003",
    "aime25": "11",
    "dapo_math": "20",
    "deepscaler": "2",
    "openr1_math": "8",
    "big_math": "2",
    "countdown": "36",
    "svamp": "5",
    "mmlu_pro": "C",
}


class Hub:
    """Stands in for ``datasets.load_dataset``: every dataset holds one row, and what was asked for is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], copies: int = 1) -> None:
        import datasets

        self.rows = datasets.Dataset.from_list([row] * copies)
        self.asked: list[tuple[str, str | None, str]] = []
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def load(self, path: str, subset: str | None = None, split: str = "train", **_: Any) -> Any:
        self.asked.append((path, subset, split))
        return self.rows


def test_each_has_a_row_here():
    assert set(ROWS) == set(PRESETS)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_reads_published_rows(monkeypatch, tokenizer, name):
    hub = Hub(monkeypatch, ROWS[name])
    data = DataConfig.model_validate({"eval": [name], "prompt": {"template": "raw", "max_tokens": 4096}})
    source = data.eval[name].model_copy(update={"skip": 0})
    (problem,) = load_problems({name: source}, data.prompt, tokenizer).problems
    assert hub.asked == [(source.path, source.subset, source.split)]
    if source.question_from is None and source.map is None:
        assert problem.prompt == ROWS[name][source.question]
    assert "{Body}" not in problem.prompt
    assert "{nums}" not in problem.prompt
    if name in GOLDS:
        assert problem.columns["answer"] == GOLDS[name]
    if name == "gpqa":
        choice = next(line for line in problem.prompt.splitlines() if line.endswith(") argon"))
        assert choice[0] == problem.columns["answer"]
    if name == "mmlu_pro":
        assert "C) 7" in problem.prompt
        assert "J) 16" in problem.prompt
    if PRESETS[name].reward == "code":
        tests = read_tests(problem.columns)
        assert tests is not None
        assert len(tests) == {"mbpp": 2, "livecodebench": 2, "code_contests": 2}.get(name, 1)
    assert PRESETS[name].reward in (None, *REWARDS)


def test_the_order_of_choices_depends_on_the_question_alone():
    from r1rl.data.published import gpqa

    first, again = gpqa(dict(ROWS["gpqa"])), gpqa(dict(ROWS["gpqa"]))
    assert first == again
    letters = {gpqa(ROWS["gpqa"] | {"Question": f"Which gas, {number}?"})["answer"] for number in range(40)}
    assert letters == set("ABCD"), "the right choice is not always in the same place"


def test_training_and_evaluation_take_their_own_split():
    data = DataConfig.model_validate({"train": ["gsm8k"], "eval": ["gsm8k", "math500"], "held_out": "svamp"})
    assert [data.train["gsm8k"].split, data.eval["gsm8k"].split, data.held_out["svamp"].split] == [
        "train",
        "test",
        "test",
    ]
    assert DataConfig.model_validate(explicit(data)) == data, "a resolved configuration means the same"


def test_written_keys_take_precedence(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: some/model\nrewards: {accuracy: 1.0}\n"
        "data: {train: {mine: {preset: gsm8k, limit: 100}}, eval: [math500, aime24]}\n"
    )
    run = load_config(path, ["data.eval.math500.limit=7"])
    assert (run.data.train["mine"].path, run.data.train["mine"].limit) == ("openai/gsm8k", 100)
    assert {name: source.limit for name, source in run.data.eval.items()} == {"math500": 7, "aime24": None}
    other = load_config(path, ["data.train.mine.preset=svamp", "data.eval=[aime25]"]).data
    assert (other.train["mine"].path, other.train["mine"].answer_pattern) == ("ChilleD/SVAMP", None)
    assert other.train["mine"].limit is None, "a new preset inherits nothing"
    assert "aime25" in other.eval


def test_an_unknown_preset_is_answered_with_the_known_ones(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: some/model\nrewards: {accuracy: 1.0}\ndata: {train: {x: {preset: gsm9k}}}\n")
    with pytest.raises(ConfigError, match=r"run.yaml:3: data.train.x has an unknown preset, 'gsm9k'; known: gsm8k,"):
        load_config(path)


def test_published_results_are_found_by_the_end_of_a_name():
    found = published("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "math500")
    assert found is not None
    assert (found.value, found.where) == (83.9, "arXiv 2501.12948")
    assert published("somebody/else", "math500") is None


ROW_FUNCTIONS = """
def halve(row):
    if row["n"] % 2:
        return None
    return row | {"question": f"half of {row['n']}", "answer": row["n"] // 2}
def wrong(row):
    return row["nothing"]
def text(row):
    return "text"
"""


def test_rows_made_by_a_function(tmp_path, tokenizer):
    (tmp_path / "mine.py").write_text(ROW_FUNCTIONS)
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(6)))
    source = DatasetConfig(path=str(tmp_path / "rows.jsonl"), map=f"{tmp_path}/mine.py:halve")
    sets = load_problems({"mine": source}, PromptConfig(template="raw"), tokenizer)
    assert [(p.prompt, p.columns["answer"]) for p in sets.problems] == [
        ("half of 0", "0"),
        ("half of 2", "1"),
        ("half of 4", "2"),
    ]
    assert sets.metrics() == {"data/mine/problems": 3, "data/mine/skipped_mapped_out": 3}
    for name, error in (("wrong", "KeyError: 'nothing'"), ("text", "TypeError: it returned str")):
        bad = source.model_copy(update={"map": f"{tmp_path}/mine.py:{name}"})
        with pytest.raises(DataError, match=rf"line 1: map .*{name} fails: {error}.*on_bad_row: skip"):
            load_problems({"mine": bad}, PromptConfig(template="raw"), tokenizer)
        lenient = bad.model_copy(update={"on_bad_row": "skip"})
        with pytest.raises(DataError, match=r"is empty \(6 bad_row left out\)"):
            load_problems({"mine": lenient}, PromptConfig(template="raw"), tokenizer)


def test_the_docs_list_every_preset():
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for name, preset in PRESETS.items():
        assert f"| `{name}` | {preset.keys['path']}" in text
        assert preset.about in text
