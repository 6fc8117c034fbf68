"""What is documented, and what the doctor and the report look at, is logged by some run."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import r1rl
from r1rl import GRPOTrainer
from r1rl.config import RunConfig
from r1rl.report.panels import PANELS
from r1rl.tracking.console import Console
from r1rl.tracking.names import GROUPS, METRICS, describe

SOURCE = Path(r1rl.__file__).parent
READERS = ("tracking/names.py", "doctor", "report")
"""Where metrics are named, and not logged."""
ROOT = Path(__file__).parents[2]
NAME = re.compile(rf"(?:{'|'.join(GROUPS)})/[a-z_]+(?:/[a-z_0-9@]+)*(?![a-z_(/])")
OTHER_RUNS = re.compile(
    r"(?:pretrain|sft|reward_model|system)/.+"
    r"|rollout/(?:servers|server_.+|resubmitted|duplicates_dropped|sync_gap|staleness.*|mixed_versions|dropped_stale)"
)
"""What other stages, vLLM and a failing service bring: of these it is only seen that the code has the name."""
REWARDS = """
def digit(prompts, completions, **kwargs):
    return [float(any(ch.isdigit() for ch in c)) if i else None for i, c in enumerate(completions)]
class Untouched:
    "A runner; an untrained policy writes no program."
    languages = ("python",)
    def __init__(self, workers, limits):
        self.limits = limits
    def close(self): ...
"""


@pytest.fixture(scope="module")
def logged(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names that a run of most things logs."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "rewards.py").write_text(REWARDS)
    source = {"path": "generated:arithmetic", "args": {"split": "train", "size": 20}}
    run = RunConfig.model_validate(
        {
            "device": "cpu",
            "model": {"path": str(tiny_folder)},
            "data": {
                "train": {"sums": source},
                "eval": {"held": source | {"args": {"split": "test", "size": 2}}},
                "prompt": {"system": ""},
                "difficulty": {"min_pass_rate": 0.1, "samples": 2},
            },
            "rewards": {"digit": {"function": f"{folder / 'rewards.py'}:digit"}, "accuracy": 0.0, "format": 1.0},
            "rollout": {"prompts_per_step": 2, "group_size": 4, "max_new_tokens": 6},
            "grpo": {"algorithm": "dapo", "beta": 0.01, "steps": 1, "eval_every": 1, "sequence_mask": 2.0},
            "evaluate": {"samples": 2, "reward": "digit"},
        }
    )
    asked = {"path": "generated:programs", "answer": None, "args": {"size": 4, "split": "train"}}
    programs = RunConfig.model_validate(
        {
            "device": "cpu",
            "model": {"path": str(tiny_folder)},
            "data": {
                "train": {"programs": asked},
                "prompt": {"system": ""},
            },
            "rewards": {"code": {"args": {"runner": f"{folder / 'rewards.py'}:Untouched"}}},
            "rollout": {"prompts_per_step": 1, "group_size": 2, "max_new_tokens": 6},
            "grpo": {"steps": 1},
        }
    )
    return _trained(run, folder / "grpo") | _trained(programs, folder / "programs")


def _trained(run: RunConfig, folder: Path) -> set[str]:
    """Names in the first step's line of metrics."""
    GRPOTrainer(run, folder, console=Console(quiet=True)).train()
    return set(json.loads((folder / "metrics.jsonl").read_text().splitlines()[0]))


def shapes(tree: ast.AST) -> Iterator[str]:
    """Every text of a file, what is filled into it written ``{}``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)


@functools.cache
def texts(*folders: str, without: bool = False) -> set[str]:
    files = [f for f in SOURCE.rglob("*.py") if f.relative_to(SOURCE).as_posix().startswith(folders) is not without]
    return {text for file in files for text in shapes(ast.parse(file.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("name", METRICS)
def test_what_is_documented_is_logged(name: str, logged: set[str]) -> None:
    if OTHER_RUNS.fullmatch(name):
        assert re.sub("[A-Z]{2,}", "{}", name) in texts(*READERS, without=True)
    else:
        assert any(describe(each) is METRICS[name] for each in logged)


def test_what_the_doctor_and_the_report_read_is_documented() -> None:
    named = {name for text in texts("doctor", "report") for name in NAME.findall(text)}
    assert "policy/ratio_deviation" in named
    assert {name for name in named if describe(name) is None} == set()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_every_panel_shows_something_documented(panel) -> None:
    examples = [re.sub("[A-Z]{2,}", "1", name) for name in METRICS]
    for pattern in panel.metrics:
        assert any(re.fullmatch(pattern, name) for name in examples), pattern


def test_what_the_pages_name_is_documented() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    quoted = {(page.name, each) for page in pages for each in re.findall(r"`([^`\s]+)`", page.read_text())}
    unknown = {
        (page, each)
        for page, each in quoted
        if re.fullmatch(rf"(?:{'|'.join(GROUPS)})/[A-Za-z_@/]+[A-Za-z_]", each)
        and each not in METRICS
        and describe(each) is None
        and not (SOURCE / each).exists()
    }
    assert unknown == set()
