"""Finding reward functions by name, and what is said when they are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from r1rl.config.rewards import RewardConfig, ScoringConfig
from r1rl.errors import RewardError
from r1rl.scoring import Scorer
from r1rl.scoring.load import REWARDS, bind, origins

BUILT_IN = {
    "accuracy", "cosine", "countdown", "format", "judge", "language", "length", "repetition", "reward_model",
    "soft_overlong",
}  # fmt: skip

FILE = """
from functools import partial
def reward(completions, scale=1.0, **kwargs):
    return [scale] * len(completions)
def factory(value):
    def made(completions, **kwargs):
        return [value] * len(completions)
    return made
class Reward:
    def __init__(self, value=2.0):
        self.value = value
    def __call__(self, completions, **kwargs):
        return [self.value] * len(completions)
instance = Reward(5.0)
bound = partial(reward, scale=7.0)
number = 3
def nothing(value):
    return None
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return str(path)


def test_the_built_in_ones_enter_by_the_public_door() -> None:
    assert {name for name, _ in origins()} >= BUILT_IN
    assert all(callable(REWARDS.load(name)) for name in BUILT_IN)


def test_a_third_party_package_is_on_equal_footing(tmp_path: Path) -> None:
    package = tmp_path / "site"
    (package / "theirs-1.0.dist-info").mkdir(parents=True)
    (package / "theirs.py").write_text("def brevity(completions, **kwargs):\n    return [0.5] * len(completions)\n")
    (package / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (package / "theirs-1.0.dist-info" / "entry_points.txt").write_text("[r1rl.rewards]\nbrevity = theirs:brevity\n")
    code = "from r1rl.scoring.load import REWARDS; print(REWARDS['brevity'](completions=['a', 'b']))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(package)}, capture_output=True, text=True
    )
    assert done.stdout == "[0.5, 0.5]\n", done.stderr


@pytest.mark.parametrize(
    ("name", "args", "value"),
    [
        ("reward", {}, 1.0), ("reward", {"scale": 3.0}, 3.0), ("factory", {"value": 4.0}, 4.0), ("Reward", {}, 2.0),
        ("Reward", {"value": 6.0}, 6.0), ("instance", {}, 5.0), ("bound", {}, 7.0),
    ],
)  # fmt: skip
def test_functions_factories_classes_and_instances(file: str, name: str, args: dict[str, float], value: float) -> None:
    assert bind(name, REWARDS.load(f"{file}:{name}"), args)(completions=["a"]) == [value]


@pytest.mark.parametrize(
    ("use", "args", "message"),
    [
        ("acuracy", {}, "no reward is called 'acuracy'; did you mean 'accuracy'"),
        ("zzz", {}, "no reward is called 'zzz'; registered: accuracy, "),
        ("missing.py:f", {}, "reward file 'missing.py' does not exist"),
        ("FILE:rewrad", {}, "has no 'rewrad'; did you mean 'reward'"),
        ("json:loadz", {}, "json has no 'loadz'; did you mean"),
        ("no.such.module:f", {}, "module 'no.such.module' does not import"),
        ("FILE:reward", {"scael": 1}, "takes no argument 'scael'; did you mean 'scale'"),
        ("FILE:number", {}, "is int, not a function"),
        ("FILE:factory", {}, "cannot be made from args {}"),
        ("FILE:nothing", {"value": 1}, "takes no completions and returned None, not a function"),
        ("language", {"traget": "de"}, "takes no argument 'traget'; did you mean 'target'"),
        ("reward_model", {"model": "/no/such/model"}, "reward model '/no/such/model' does not load"),
    ],
)
def test_mistakes_are_named(file: str, use: str, args: dict[str, object], message: str) -> None:
    with pytest.raises(RewardError, match=message.replace("(", r"\(").replace("{", r"\{")):
        Scorer({"it": RewardConfig(function=use.replace("FILE", file), args=args)}, ScoringConfig())


def test_a_file_that_does_not_import_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module\n")
    with pytest.raises(RewardError, match="does not import: ModuleNotFoundError: No module named 'no_such_module'"):
        REWARDS.load(f"{tmp_path / 'bad.py'}:f")
    (tmp_path / "worse.py").write_text("def f(:\n")
    with pytest.raises(RewardError, match="does not import: SyntaxError"):
        REWARDS.load(f"{tmp_path / 'worse.py'}:f")
