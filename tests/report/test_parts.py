"""Thinning, choosing, comparing, judging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from r1rl.report.compare import differences, series_of, unique
from r1rl.report.curves import MOST_STEPS, STRETCHES, curves
from r1rl.report.diagnose import BAD, GOOD, UNKNOWN, WARN, broken, cheating, held_out, learning, questions, remaining
from r1rl.report.panels import PANELS, panels_of
from r1rl.report.read import RunFolder, Stage, read_run
from r1rl.report.samples import MOST, TEXT, clipped, samples_of
from tests.support.report_runs import HOSTILE, write_run


def stage(rows: list[dict[str, Any]], **settings: Any) -> Stage:
    return Stage("zero", "grpo", settings, metrics=rows)


@pytest.mark.parametrize("steps", [0, 1, MOST_STEPS, MOST_STEPS + 1, 10_400])
def test_long_curves_are_thinned_and_keep_their_spikes(steps: int) -> None:
    rows = [{"step": s, "policy/grad_norm": 1000.0 if s == steps // 2 else 1.0} for s in range(1, steps + 1)]
    shown = curves(stage(rows))
    assert len(shown["steps"]) == (steps if steps <= MOST_STEPS else STRETCHES)
    if steps:
        assert shown["steps"][-1] == steps
    if steps > MOST_STEPS:
        assert max(shown["high"]["policy/grad_norm"]) == 1000


def test_many_runs_share_the_space() -> None:
    rows = [{"step": s, "reward/mean": 1.0} for s in range(1, 1001)]
    assert len(curves(stage(rows), runs=20)["steps"]) == 100


def test_every_panel_has_a_metric_the_table_of_metrics_knows(run_dir: Path) -> None:
    zero = read_run(run_dir).stage("zero")
    assert zero is not None
    found = panels_of(zero.names())
    titles = [panel["title"] for panel in found]
    other_stages = {panel.title for panel in PANELS if panel.section == "Training"}
    assert {panel.title for panel in PANELS} - set(titles) == other_stages | {"Age of samples", "Servers"}
    assert [line["label"] for line in found[titles.index("Reward by component")]["lines"]] == ["accuracy", "format"]
    assert {line["label"] for line in found[titles.index("Where a step's time goes")]["lines"]} == {
        "rollout",
        "update",
        "sync",
    }
    lines = [line["metric"] for panel in found for line in panel["lines"]]
    assert len(lines) == len(set(lines))


def test_stages_that_are_no_rl_have_their_panels() -> None:
    names = ["sft/loss", "sft/lr", "sft/grad_norm", "sft/token_accuracy"]
    assert [panel["title"] for panel in panels_of(names)] == [
        "Training loss",
        "Token accuracy",
        "Gradient norm",
        "Learning rate",
    ]


def test_a_metric_that_no_panel_takes_gets_its_own() -> None:
    assert [panel["title"] for panel in panels_of(["my/own", "flat/line"], constant=["flat/line"])] == ["my/own"]


def test_samples_keep_recurring_problems_and_the_last_step(run_dir: Path) -> None:
    run = read_run(run_dir)
    zero = run.stage("zero")
    assert zero is not None
    zero.samples = [dict(row, problem=f"{row['problem']}/{i % 997}") for i, row in enumerate(zero.samples * 10)]
    recurring = [dict(zero.samples[0], problem="same", step=s) for s in range(1, 120, 10)]
    zero.samples = zero.samples + recurring
    chosen = samples_of([run])
    assert len(chosen) <= MOST
    assert sum(row["problem"] == "same" for row in chosen) == len(recurring)
    assert {row["stage"] for row in chosen} == {"base-eval", "zero", "zero-eval"}
    before = [row for row in chosen if row["stage"] == "base-eval"]
    assert before[0]["problem"] == "sums-0007"


def test_texts_are_clipped_in_the_middle_and_shown_without_control_characters() -> None:
    text = clipped("a" * TEXT + "b" * TEXT + "the end")
    assert len(text) < TEXT + 100
    assert text.endswith("the end")
    assert "characters left out" in text
    assert clipped(HOSTILE).endswith("\\x1b[31m\\u202egnp.exe")
    assert clipped("\ud800") == "\\ud800"


def test_seeds_of_one_configuration_are_one_series(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / f"zero-seed{seed}", seed, steps=10)) for seed in range(3)]
    runs.append(read_run(write_run(tmp_path / "kl", 0, steps=10, beta=0.01)))
    series = series_of(runs)
    assert [(one.label, one.runs) for one in series] == [("zero, 3 seeds", [0, 1, 2]), ("kl", [3])]
    assert differences(runs) == {"grpo.beta": ["0.0", "0.0", "0.0", "0.01"]}
    assert unique(["a", "b", "a"]) == ["a", "b", "a (2)"]


def lines(count: int = 60, **metrics: Any) -> list[dict[str, Any]]:
    """Rows in which each metric is a constant or a function of the share of the run that is done."""
    return [
        {"step": s, **{k.replace("__", "/"): v(s / count) if callable(v) else v for k, v in metrics.items()}}
        for s in range(1, count + 1)
    ]


def judged(rows: list[dict[str, Any]], **settings: Any) -> tuple[RunFolder, Stage]:
    one = stage(rows, **settings)
    return RunFolder(Path("runs/x"), "x", {}, [one]), one


def test_held_out_accuracy_is_that_of_the_evaluation_stages_and_until_they_are_done_that_of_the_curve() -> None:
    def measured(model: str, value: float) -> Stage:
        settings = {"kind": "evaluate", "model": model}
        return Stage(f"{model}-eval", "evaluate", settings, results={"held_out/pass@1": value})

    rows = [{"step": 2, "eval/dev/pass@1": 0.6}, {"step": 4, "eval/dev/pass@1": 0.8}]
    one = Stage("zero", "grpo", {"kind": "grpo", "model": "base"}, metrics=rows)
    before, after = measured("base", 0.3), measured("zero", 0.9)
    assert held_out(RunFolder(Path("runs/x"), "x", {}, [before, one]), one) == [("dev", 0.6, 0.8)]
    assert held_out(RunFolder(Path("runs/x"), "x", {}, [before, one, after]), one) == [("held_out", 0.3, 0.9)]


def test_is_it_learning() -> None:
    assert learning(*judged(lines(5, reward__mean=1.0))).level == UNKNOWN
    assert learning(*judged(lines(reward__mean=lambda t: t))).words == "Yes, still rising"
    assert learning(*judged(lines(reward__mean=lambda t: min(t, 0.5)))).words == "Yes, and it has settled"
    assert learning(*judged(lines(reward__mean=lambda t: 1 - t))).level == BAD
    assert learning(*judged(lines(reward__mean=0.5))).level == WARN
    assert learning(*judged(lines(reward__mean=0.0, rollout__zero_variance_groups=1.0))).words == "No: no signal"


def test_is_it_cheating() -> None:
    well = {"reward__mean": lambda t: t, "reward__accuracy__mean": lambda t: t}
    assert cheating(*judged(lines(**well, rollout__length_mean=lambda t: 10 + 90 * t))).level == GOOD
    assert cheating(*judged(lines(reward__mean=lambda t: t))).level == UNKNOWN, "nothing to compare the reward with"
    falls = lines(reward__mean=lambda t: t, reward__accuracy__mean=lambda t: 0.5 - t / 2)
    assert "Accuracy fell" in cheating(*judged(falls)).why[0]
    rambles = lines(reward__mean=0.5, reward__accuracy__mean=0.5, rollout__length_mean=lambda t: 10 + 90 * t)
    assert "Length grew" in cheating(*judged(rambles)).why[0]
    run, one = judged(lines(**well))
    for name in ("problem", "problem_id"):  # what runs before it was called
        one.samples = [{"step": 60, name: i, "completion": "<answer>1</answer>"} for i in range(10)]
        assert "one text" in cheating(run, one).why[0]
        assert [row["problem"] for row in samples_of([run])] == [str(i) for i in range(10)]
    for row in one.metrics:
        row["eval/test/pass@1"] = 0.3
    assert "points above held-out" in cheating(run, one).why[0]


@pytest.mark.parametrize(
    ("metrics", "level", "says"),
    [
        ({"policy__engine_mismatch": 1e-7}, GOOD, "finite"),
        ({"policy__engine_mismatch": 0.2}, BAD, "sampler and learner"),
        ({"policy__updates_skipped": 2.0}, BAD, "updates skipped"),
        ({"policy__loss__non_finite": 1}, BAD, "policy/loss was not finite in 60 steps"),
        ({"rollout__truncated": 0.5}, WARN, "50\N{NO-BREAK SPACE}% of completions cut"),
        (
            {"policy__engine_mismatch": 1e-7, "reward__a__timeouts": 0.0},
            GOOD,
            "no check lost, sampler and learner agree",
        ),
        ({"reward__a__timeouts": 1.0, "reward__a__lost": 0.005}, GOOD, "finite, at most 0.5\N{NO-BREAK SPACE}% of a"),
        ({"reward__accuracy__timeouts": 5.0, "rollout__completions": 100.0}, WARN, "(timeouts 300)"),
        (
            {"reward__a__crashes": 1.0, "reward__a__lost": 0.1, "rollout__completions": 160.0},
            WARN,
            "10\N{NO-BREAK SPACE}%",
        ),
        ({"reward__format__mean": 0.0}, WARN, "pre-fill"),
    ],
)
def test_is_it_broken(metrics: dict[str, Any], level: str, says: str) -> None:
    finding = broken(stage(lines(**metrics)))
    assert finding.level == level
    assert says in " ".join(finding.why)


def test_how_long_yet() -> None:
    run, one = judged(lines(60, reward__mean=0.0, time__step=2.0))
    one.total, one.written = 100, 1000.0
    assert remaining(run, one, now=1001.0).words == "About 1:20"
    assert remaining(run, one, now=9000.0).words == "Stopped?"
    one.total = 60
    assert remaining(run, one, now=9000.0).words == "Done"


def test_a_run_without_a_step_says_so(tmp_path: Path) -> None:
    answers = questions(RunFolder(tmp_path, "x", {}, []), now=0.0)
    assert len(answers) == 4
    assert {finding.level for finding in answers.values()} == {UNKNOWN}
