from __future__ import annotations

import json
import logging
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config.data import DatasetConfig, DifficultyConfig, PromptConfig
from r1rl.config.load import load_config
from r1rl.data.overlap import ensure_disjoint
from r1rl.data.problems import ProblemSets, _digits, filter_by_pass_rate, load_problems
from r1rl.errors import ConfigError, DataError
from r1rl.types import Problem

HERE = Path(__file__).parent
SHARED_GSM8K = HERE.parents[2] / "shared" / "data" / "gsm8k"
RAW = PromptConfig(template="raw", max_tokens=4096)


@pytest.fixture
def load(tmp_path, tokenizer):
    """``load(rows, prompt=..., **DatasetConfig keys)`` writes the rows to a file and loads them as source ``s``."""

    def load(rows, prompt=RAW, **keys) -> ProblemSets:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load_problems({"s": DatasetConfig(path=str(path), **keys)}, prompt, tokenizer)

    return load


def test_gsm8k_rows_load_with_their_gold(tokenizer):
    config = DatasetConfig(path=str(HERE / "gsm8k_rows.jsonl"), answer_pattern="#### (.+)")
    sets = load_problems({"gsm8k": config}, PromptConfig(max_tokens=4096), tokenizer)
    assert [p.columns["answer"] for p in sets.problems] == ["22", "1,350", "-4"]
    first = sets.by_source["gsm8k"][0]
    assert first.source == "gsm8k"
    assert first.prompt.endswith(f"User: {first.columns['question']}\nAssistant:")
    assert tokenizer.decode(first.prompt_ids) == first.prompt
    assert sets.metrics() == {"data/gsm8k/problems": 3}


@pytest.mark.skipif(not SHARED_GSM8K.is_dir(), reason="the GSM8K data set is not beside the repository")
def test_the_whole_of_gsm8k_loads_and_is_disjoint(tokenizer):
    sources = {
        name: DatasetConfig(path=str(SHARED_GSM8K / f"{name}.jsonl"), answer_pattern="#### (.+)")
        for name in ("train", "test")
    }
    sets = load_problems(sources, RAW, tokenizer)
    assert {name: len(problems) for name, problems in sets.by_source.items()} == {"train": 7473, "test": 1319}
    assert all(re.fullmatch(r"-?[\d,]+(\.\d+)?", p.columns["answer"]) for p in sets.problems)
    assert sets.by_source["train"][0].columns["answer"] == "72"
    train, test = (ProblemSets({name: sets.by_source[name]}) for name in ("train", "test"))
    assert len(ensure_disjoint(train, test, "error")) == 7473


def test_the_other_columns_come_along(load):
    problem = load([{"question": "Q", "answer": 4, "level": 3, "nums": [1, 2]}]).problems[0]
    assert problem.columns == {"question": "Q", "answer": "4", "level": 3, "nums": [1, 2]}


def test_a_column_that_only_other_rows_have_is_none(load):
    rows = [{"question": "Q", "answer": "1", "hint": "h"}, {"question": "R", "answer": "2", "level": 3}]
    first, second = load(rows).problems
    assert first.columns == {**rows[0], "level": None}
    assert second.columns == {**rows[1], "hint": None}


def test_columns_by_other_names_and_no_gold(load):
    problem = load([{"problem": "Q", "solution": "so: x"}], question="problem", answer="solution").problems[0]
    assert (problem.columns["question"], problem.columns["answer"]) == ("Q", "so: x")
    assert "answer" not in load([{"question": "Q"}], answer=None).problems[0].columns


def test_a_question_written_from_columns(load):
    text = r"Make {target} from {nums} in \boxed{}."
    problem = load([{"target": 10, "nums": [3, 7]}], question_from=text, answer="target").problems[0]
    assert problem.prompt == problem.columns["question"] == r"Make 10 from [3, 7] in \boxed{}."
    with pytest.raises(DataError, match="has no column 'goal'; it has target"):
        load([{"target": 10}], question_from="Make {goal}", answer="target")


def test_a_question_written_from_columns_of_any_name(load):
    row = {"Question Text": "2+2", "über-größe": 7, "a.b": "x", "题目": "加法", "answer": 4}
    text = r"{Question Text} {über-größe} {a.b} {题目} \frac{1}{2} {x+1} {{n}} {{a.b}}"
    problem = load([row], question_from=text).problems[0]
    assert problem.prompt == r"2+2 7 x 加法 \frac{1}{2} {x+1} {n} {x}"
    with pytest.raises(DataError, match=r"no column 'question text'; .*; did you mean 'Question Text'\?"):
        load([row], question_from="{question text}")
    with pytest.raises(DataError, match="line 2: question_from produces only whitespace"):
        load([row, {"Question Text": " ", "answer": 1}], question_from="{Question Text}")
    with pytest.raises(ValueError, match="names no column"):
        DatasetConfig(path="rows.jsonl", question_from="What is the question?")


def test_columns_of_a_table_of_ones_own_are_suggested(load):
    with pytest.raises(DataError) as error:
        load([{"Question": "Q", "Réponse": "1"}], answer="réponse")
    assert str(error.value).endswith(
        "has no column 'question' and no column 'réponse'; it has Question, Réponse; "
        "set question, question_from or answer to one of them; did you mean 'Question', 'Réponse'?"
    )


def test_conversations(load, make_tokenizer, tmp_path):
    messages = [{"role": "user", "content": "Q"}]
    problem = load([{"question": messages, "answer": "4"}]).problems[0]
    assert problem.prompt == "Q"
    assert problem.columns["question"] == messages


def test_each_source_may_have_its_own_prompt(tokenizer):
    path = str(HERE / "gsm8k_rows.jsonl")
    sources = {"a": DatasetConfig(path=path), "b": DatasetConfig(path=path, prompt=RAW)}
    sets = load_problems(sources, PromptConfig(max_tokens=4096), tokenizer)
    assert sets.by_source["a"][0].prompt != sets.by_source["b"][0].prompt == sets.by_source["b"][0].columns["question"]


def test_ids_are_stable_and_unique(load):
    rows = [{"question": "Q", "answer": "1"}, {"question": "R", "answer": "1"}, {"question": "Q", "answer": "1"}]
    first, second = (load(rows, prompt=p).problems for p in (RAW, PromptConfig(max_tokens=4096)))
    assert [p.id for p in first] == [p.id for p in second]
    assert len({p.id for p in first}) == 3
    assert first[0].id == "s-47b59e039b49dcd7"


def test_missing_column(load):
    with pytest.raises(DataError, match=r"data source s \(.*\) has no column 'question'; it has prompt, answer; set"):
        load([{"prompt": "Q", "answer": "1"}])
    with pytest.raises(DataError, match="has no column 'gold'"):
        load([{"question": "Q", "answer": "1"}], answer="gold")


@pytest.mark.parametrize(
    ("row", "keys", "message"),
    [
        ({"question": "Q"}, {}, "column 'answer' is missing"),
        ({"question": None, "answer": "1"}, {}, "column 'question' is missing"),
        ({"question": " ", "answer": "1"}, {}, "neither text nor a list of messages"),
        ({"question": [{"role": "user"}], "answer": "1"}, {}, "neither text nor a list of messages"),
        ({"question": "Q", "answer": " "}, {}, "gold answer in column 'answer' is empty"),
        ({"question": "Q", "answer": float("nan")}, {}, "column 'answer' is missing"),
        ({"question": float("nan"), "answer": "1"}, {}, "column 'question' is missing"),
        ({"question": "Q", "answer": float("-inf")}, {}, "gold answer in column 'answer' is -inf"),
        ({"question": "Q", "answer": [None, float("nan"), " "]}, {}, "gold answer in column 'answer' is empty"),
        ({"question": "cut \ud83d", "answer": "1"}, {}, "column 'question' contains a lone surrogate"),
        ({"question": "Q", "answer": "1", "chosen": "\ude42"}, {}, "column 'chosen' contains a lone surrogate"),
        ({"question": "Q", "answer": "1", "hints": [{"a": "\ud83d"}]}, {}, "column 'hints' contains a lone surrogate"),
        ({"question": "Q", "answer": "no mark"}, {"answer_pattern": "#### (.+)"}, "has no match in column 'answer'"),
    ],
)
def test_bad_rows_are_named_or_counted(load, caplog, row, keys, message):
    rows = [{"question": "Q", "answer": "#### 1"}, row]
    with pytest.raises(DataError, match=rf"rows.jsonl\) line 2: .*{message}.*; fix it, or set on_bad_row: skip"):
        load(rows, **keys)
    with caplog.at_level(logging.WARNING):
        sets = load(rows, **keys, on_bad_row="skip")
    assert len(sets) == 1
    assert sets.metrics() == {"data/s/problems": 1, "data/s/skipped_bad_row": 1}
    assert "skipped rows: 1 bad_row" in caplog.text


@pytest.mark.parametrize(
    ("written", "gold"),
    [
        ("1e16", "10000000000000000"),
        ("1e23", "100000000000000000000000"),
        ("72.0", "72"),
        ("-0.0", "0"),
        ("0.0000001", "0.0000001"),
        ("-2.5", "-2.5"),
        ("123456789012345678901", "123456789012345678901"),
    ],
)
def test_a_number_is_a_gold_without_exponent(tokenizer, tmp_path, written, gold):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"question": "Q", "answer": {written}}}\n')
    source = DatasetConfig(path=str(path), answer_pattern="^([-.0-9]+)$")
    assert load_problems({"s": source}, RAW, tokenizer).problems[0].columns["answer"] == gold


@given(st.floats(allow_nan=False, allow_infinity=False) | st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_a_number_written_out_reads_as_the_same(number):
    text = _digits(number)
    assert type(number)(text) == number
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)


def test_a_whole_emoji_is_no_bad_row(load):
    assert load([{"question": "Why 🙂?", "answer": "1"}]).problems[0].prompt == "Why 🙂?"


def test_nothing_left(load):
    with pytest.raises(DataError, match="no usable row; skipped rows: 2 bad_row"):
        load([{"question": "Q", "answer": ""}] * 2, on_bad_row="skip")


def test_prompts_longer_than_the_limit(load, caplog):
    rows = [{"question": "Q", "answer": "1"}, {"question": "3 + 4 " * 50, "answer": "1"}]
    with pytest.raises(DataError, match=r"line 2: its prompt is \d+ tokens, longer than prompt\.max_tokens 20; raise"):
        load(rows, PromptConfig(template="raw", max_tokens=20))
    sets = load(rows, PromptConfig(template="raw", max_tokens=20, too_long="skip"))
    assert sets.skipped["s"] == {"too_long": 1}
    assert "skipped rows: 1 too_long" in caplog.text


def test_bad_answer_patterns(tmp_path):
    path = tmp_path / "run.yaml"
    for pattern, message in (("(", "'\\(' is not a regular expression"), ("####", "'####' has no group; put")):
        path.write_text(f"data: {{train: {{s: {{path: rows.jsonl, answer_pattern: '{pattern}'}}}}}}")
        with pytest.raises(ConfigError, match=rf"run\.yaml:1.*answer_pattern.*{message}"):
            load_config(path)


# ------------------------------------------------------------------------------------------------------ disjointness


def problem_set(*questions: str, source: str = "s") -> ProblemSets:
    problems = [Problem(f"{source}-{i}", (1,), q, {"question": q}, source) for i, q in enumerate(questions)]
    return ProblemSets({source: problems})


def test_overlap_is_found_whatever_template_case_and_blanks():
    train = problem_set("What is 2 +  2?", "cafe\u0301", "New")
    held_out = problem_set("what is 2 + 2?\n", "caf\u00e9", "Other", source="e")
    held_out.by_source["e"][0] = Problem("e-0", (1,), "User: …", {"question": "what is 2 + 2?\n"}, "e")
    with pytest.raises(
        DataError,
        match=r"2 of 3 training questions are also evaluation questions, for example 'what is 2 \+ 2\?' \(s and e\)",
    ):
        ensure_disjoint(train, held_out, "error")
    kept = ensure_disjoint(train, held_out, "drop")
    assert [p.prompt for p in kept.problems] == ["New"]
    assert kept.skipped == {"s": {"overlap": 2}}
    assert len(train) == 3, "the argument is left alone"


def test_everything_overlaps():
    with pytest.raises(DataError, match="s has only evaluation questions"):
        ensure_disjoint(problem_set("a"), problem_set("A"), "drop")


words = st.lists(st.text("ab ", min_size=1, max_size=3).filter(str.strip), min_size=1, max_size=8)


@given(words, words)
def test_what_is_kept_is_disjoint_and_nothing_else_is_lost(train, held_out):
    a, b = problem_set(*train), problem_set(*held_out, source="e")
    evaluated = {" ".join(q.split()) for q in held_out}
    rest = [q for q in train if " ".join(q.split()) not in evaluated]
    if not rest:
        return
    kept = ensure_disjoint(a, b, "drop")
    assert [p.prompt for p in kept.problems] == rest
    assert sum(kept.skipped.get("s", Counter()).values()) == len(train) - len(rest)


# -------------------------------------------------------------------------------------------------------- difficulty


@given(st.lists(st.integers(0, 8), min_size=1, max_size=20), st.integers(0, 4), st.integers(4, 8))
def test_pass_rates_within_the_bounds_are_kept(solved, low, high):
    problems = problem_set(*map(str, range(len(solved)))).problems
    rates = {p.id: s / 8 for p, s in zip(problems, solved, strict=True)}
    config = DifficultyConfig(min_pass_rate=low / 8, max_pass_rate=high / 8)
    expected = [p for p, s in zip(problems, solved, strict=True) if low <= s <= high]
    if expected:
        assert filter_by_pass_rate(problems, rates, config) == expected
    else:
        with pytest.raises(DataError, match=r"widen data\.difficulty"):
            filter_by_pass_rate(problems, rates, config)


def test_a_problem_without_a_pass_rate():
    with pytest.raises(DataError, match="1 problems have no pass rate, for example s-1"):
        filter_by_pass_rate(problem_set("a", "b").problems, {"s-0": 0.5}, DifficultyConfig())
