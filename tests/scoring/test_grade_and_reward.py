"""``r1rl grade`` and ``r1rl reward`` as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from r1rl.config.rewards import RewardConfig
from r1rl.errors import DataError, ForeignError, RewardError
from r1rl.scoring import commands
from r1rl.scoring.trial import try_rewards

HARD = r"\int_0^1 e^{\sin(x^{5})\cos(x)}\sqrt{\tan x} dx"
ROWS: list[dict[str, Any]] = [
    {"id": 1, "gold": "18", "text": r"<think>9 · 2</think>\boxed{18}", "q": "a"},
    {"id": 2, "gold": "18", "text": r"\boxed{19}", "q": "a"},
    {"id": 3, "gold": ["1/2", r"\frac{x}{2x}"], "text": [{"role": "assistant", "content": r"\boxed{0.5}"}], "q": "b"},
    {"id": 4, "gold": "x^2+2x+1", "text": r"\boxed{(x+1)^2}", "q": "b"},
    {"id": 5, "gold": "1", "text": f"\\boxed{{{HARD}}}", "q": "b"},
    {"id": 6, "gold": "1", "text": "no idea", "q": "c"},
    {"id": 7, "gold": None, "text": r"\boxed{1}", "q": "c"},
    {"id": 8, "gold": 18, "text": "lone surrogate \ud800 #### 18", "q": "c"},
]
VERDICTS = ["correct", "wrong", "correct", "correct", "timeout", "unparsable", "unparsable", "correct"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    return path


def test_grading_adds_three_fields_and_keeps_the_rest(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "graded.jsonl"
    commands.grade(file, gold="gold", completion="text", out=out, workers=2)
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["verdict"] for row in graded] == VERDICTS
    assert [row["extracted"] for row in graded] == ["18", "19", "0.5", "(x+1)^2", HARD, None, "1", "18"]
    assert graded[5]["path"] == "no answer"
    assert graded[6]["path"] == "gold"
    assert [{k: v for k, v in row.items() if k not in ("extracted", "verdict", "path")} for row in graded] == ROWS
    printed = capsys.readouterr().out
    assert "accuracy 0.5000 over 8 rows" in printed
    assert "8/8" in printed
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("gold", [None, float("nan"), " ", [], [None, float("nan")]])
def test_a_missing_gold_is_no_answer(tmp_path: Path, gold: Any) -> None:
    file, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    file.write_text(json.dumps({"answer": gold, "completion": r"\boxed{1}"}))
    commands.grade(file, out=out, workers=1)
    assert json.loads(out.read_text())["path"] == "gold"


def test_many_rows_in_order(tmp_path: Path) -> None:
    file, out = tmp_path / "many.jsonl", tmp_path / "out.jsonl"
    rows = [{"answer": f"x+{n}", "completion": f"\\boxed{{{n + n % 3}+x}}"} for n in range(700)]
    file.write_text("\n".join(map(json.dumps, rows)))
    commands.grade(file, out=out, workers=2)
    verdicts = [json.loads(line)["verdict"] for line in out.read_text().splitlines()]
    assert verdicts == ["wrong" if n % 3 else "correct" for n in range(700)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"answer": "1"}', r"row 1 has no field 'completion'; its fields: answer"),
        ('{"answer": "1", "completion": "1"}\n{"completion": "1"}', r"row 2 has no field 'answer'"),
        ('{"answer": "1", "completion": "1"}\nnot json', r"line 2 is not valid JSON"),
        ("[1, 2]", r"line 1 is list, not an object"),
    ],
)
def test_a_bad_row_is_named_and_nothing_half_done_stays(tmp_path: Path, lines: str, message: str) -> None:
    file, out = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    file.write_text(lines)
    with pytest.raises(DataError, match=message):
        commands.grade(file, out=out, workers=1)
    assert list(tmp_path.iterdir()) == [file]


def test_a_missing_file() -> None:
    with pytest.raises(DataError, match=r"missing.jsonl does not exist"):
        commands.grade(Path("missing.jsonl"))
    with pytest.raises(DataError, match=r"missing.jsonl does not exist"):
        commands.reward(Path("missing.jsonl"), use=["format"])


def test_trying_ones_own_function(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "def short(completions, most=20, **kwargs):\n    return [float(len(c) < most) for c in completions]\n"
    )
    commands.reward(file, use=[f"{mine}:short"], arg=["most=12"], completion="text", prompt="q", limit=2)
    printed = capsys.readouterr().out
    assert "short 0\n" in printed
    assert "short 1\n" in printed
    assert "reward/short/mean" in printed


@pytest.mark.parametrize(
    ("written", "value"),
    [("no", "no"), ("1e-6", 1e-6), ("007", "007"), ("#### (.+)", "#### (.+)"), ("a: b", "a: b"), ("[x, 1]", ["x", 1])],
)
def test_arguments_are_read_as_in_a_configuration(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, value: object
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        f"def same(completions, given=None, **kwargs):\n    return [float(given == {value!r})] * len(completions)\n"
    )
    commands.reward(file, use=[f"{mine}:same"], arg=[f"given={written}"], completion="text", prompt="q", limit=1)
    assert "same 1\n" in capsys.readouterr().out


def tried(tmp_path: Path, rows: list[dict[str, Any]], body: str) -> list[list[float]]:
    """The rewards of each group, by a function with this body."""
    file, mine = tmp_path / "rows.jsonl", tmp_path / "mine.py"
    file.write_text("\n".join(map(json.dumps, rows)))
    mine.write_text(f"def mine(completions, answer=None, **kwargs):\n    return {body}\n")
    scored, _ = try_rewards(file, {"mine": RewardConfig(function=f"{mine}:mine")}, "completion", "prompt", None)
    return [group.rewards.tolist() for group in scored]


def test_rows_with_the_same_prompt_and_columns_are_one_group(tmp_path: Path) -> None:
    size = "[float(len(completions))] * len(completions)"
    asked = [("a", 1), ("a", 1), ("b", 1), ("b", 2), ("b", 2), ("b", 2), (None, 2), (None, 2), ("a", 1)]
    rows = [{"prompt": prompt, "answer": answer, "completion": "x"} for prompt, answer in asked]
    assert tried(tmp_path, rows, size) == [[2, 2], [1], [3, 3, 3], [2, 2], [1]]


def test_a_row_without_a_prompt_is_scored_against_its_own_answer(tmp_path: Path) -> None:
    equal = "[float(text == one) for text, one in zip(completions, answer)]"
    rows = [{"answer": answer, "completion": answer} for answer in "abbc"]
    assert tried(tmp_path, rows, equal) == [[1], [1], [1], [1]]
    assert tried(tmp_path, [{"prompt": "q"} | row for row in rows], equal) == [[1], [1, 1], [1]]


def test_the_lines_of_a_run_keep_their_groups(tmp_path: Path) -> None:
    size = "[float(len(completions))] * len(completions)"
    rows = [
        {"problem_id": name, "prompt": "q", "completion": text, "length": len(text), "columns": {"answer": name}}
        for name, text in (("a", "one"), ("a", "three"), ("b", "four"))
    ]
    assert tried(tmp_path, rows, size) == [[2, 2], [1]]


def test_a_byte_order_mark_is_not_part_of_the_first_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Windows' editors and PowerShell write it."""
    file.write_text(file.read_text(), encoding="utf-8-sig")
    commands.grade(file, gold="gold", completion="text", out=tmp_path / "graded.jsonl", workers=1)
    assert "accuracy 0.5000 over 8 rows" in capsys.readouterr().out
    commands.reward(file, use=["format"], completion="text", prompt="q")
    assert "8 of 8 completions" in capsys.readouterr().out


def test_listing_and_mistakes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.reward(names=True)
    assert "r1rl_rewards.accuracy:accuracy" in capsys.readouterr().out
    with pytest.raises(RewardError, match=r"give a FILE.jsonl and at least one --reward"):
        commands.reward(file)
    with pytest.raises(RewardError, match=r"did you mean 'language'"):
        commands.reward(file, use=["langage"])
    with pytest.raises(RewardError, match="is not KEY=VALUE"):
        commands.reward(file, use=["language"], arg=["target"])


@pytest.mark.integration
def test_on_the_command_line(file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "r1rl", "grade", str(file), "--gold", "gold", "--completion", "text"]
    done = subprocess.run([*command, "--out", str(tmp_path / "o.jsonl")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "accuracy 0.5000 over 8 rows" in done.stdout
    done = subprocess.run([*command[:-1], "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("r1rl: error:")
    assert len(done.stderr.splitlines()) == 1


def test_a_file_that_exists_is_replaced_only_when_asked(file: Path, tmp_path: Path) -> None:
    for out in (file, tmp_path / "notes.txt"):
        before = "" if out == file else "mine"
        out.write_text(before or file.read_text())
        content = out.read_text()
        with pytest.raises(ForeignError, match=r"exists and is left alone; choose another file, or add --overwrite"):
            commands.grade(file, gold="gold", completion="text", out=out, workers=1)
        assert out.read_text() == content
    commands.grade(file, gold="gold", completion="text", out=tmp_path / "notes.txt", workers=1, overwrite=True)
    assert len((tmp_path / "notes.txt").read_text().splitlines()) == len(ROWS)


BARE = "tests.support.bare_runner:BareRunner"
PROGRAMS = [
    {"completion": "```python\nprint(int(input()) + 1)\n```", "tests": '{"inputs": ["1", "2"], "outputs": ["2", "3"]}'},
    {"completion": "```python\nprint(2)\n```", "tests": '{"inputs": ["1", "2"], "outputs": ["2", "3"]}'},
    {"completion": "It is 2.", "tests": '{"inputs": ["1"], "outputs": ["2"]}'},
    {"completion": "```python\nprint(2)\n```", "tests": None},
]


def test_programs_are_run_on_the_tests_in_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "programs.jsonl", tmp_path / "graded.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PROGRAMS))
    commands.grade(file, out=out, code=True, arg=[f"runner={BARE}", "credit=share"], workers=2)
    graded = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["verdict"], row["passed"], row["total"]) for row in graded] == [
        ("passed", 2, 2),
        ("wrong", 1, 2),
        ("no_program", 0, 1),
        ("no_tests", 0, 0),
    ]
    assert [row["tests"] for row in graded] == [row["tests"] for row in PROGRAMS]
    assert "accuracy 0.2500 over 4 rows" in capsys.readouterr().out


def test_arguments_of_the_code_reward_are_for_programs(file: Path) -> None:
    with pytest.raises(RewardError, match="--arg is for --code"):
        commands.grade(file, arg=["credit=share"])
