"""`r1rl evaluate`: a real model on a dataset in a published one's columns, the table, and what it refuses."""

from __future__ import annotations

import json

import pytest

from r1rl.cli import main
from r1rl.recipe.evaluate import interval


def _run(*args: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *args])
    return int(ended.value.code or 0)


def test_a_model_on_two_datasets(tiny_folder, tmp_path, monkeypatch, capsys):
    import datasets

    asked = []

    def load_dataset(path, subset=None, split="train", **_):
        asked.append((path, split))
        rows = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(4)]
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    command = [
        *(str(tiny_folder), "--on", "math500,aime25", "--samples", "2", "--max-new-tokens", "6", "--limit", "3"),
        *("--template", "raw", "--out", str(tmp_path / "out")),
    ]
    assert _run(*command) == 0
    assert asked == [("HuggingFaceH4/MATH-500", "test"), ("math-ai/aime25", "test")]
    shown = capsys.readouterr().out
    assert "pass@1 over 2 samples at temperature 0.6" in shown
    assert "math500" in shown
    assert "aime25" in shown
    (folder,) = (tmp_path / "out").iterdir()
    results = json.loads((folder / "results.json").read_text())["evaluate"]
    assert results["math500/problems"] == 3
    assert 0 <= results["aime25/pass@1"] <= 1
    assert _run(*command) == 0
    assert "done already" in capsys.readouterr().out, "the same command shows the same results"


@pytest.mark.parametrize(
    ("on", "said"),
    [
        ("math501", "math501 is not a dataset; known: gsm8k, math, math500"),
        ("", "nothing is not a dataset"),
        ("ifeval", "ifeval needs a reward of your own"),
        ("gsm8k,countdown", r"different rewards (gsm8k by accuracy, countdown by countdown); evaluate them one by one"),
    ],
)
def test_what_cannot_be_measured(tiny_folder, capsys, on, said):
    assert _run(str(tiny_folder), "--on", on) == 2
    assert said in capsys.readouterr().err


def test_the_interval_covers_the_mean_of_new_problems():
    import numpy as np

    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        low, high = interval((rng.random(50) < 0.4).astype(float).tolist())
        covered += low <= 0.4 <= high
    assert covered >= 50
