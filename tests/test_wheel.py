"""What is built is whole: the wheel runs the demo and a user's own reward in an environment and a place of its own."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.support.small_demo import SMALL
from tests.support.waits import HANG_S

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
SHIPPED = {".js", ".css", ".html", ".svg", ".md", ".txt"}
REWARD = '''
def short(completions, **kwargs):
    """1 for less than 40 characters."""
    return [float(len(text) < 40) for text in completions]
'''


def run(*command: object, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel made from it, so that the sdist is proven whole as well."""
    pytest.importorskip("build", reason="pip install build setuptools")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_the_wheel_holds_what_is_no_python(built: dict[str, Path]) -> None:
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    report = ROOT / "src/r1rl/report"
    assets = {f"r1rl/report/{path.relative_to(report)}" for path in report.rglob("*") if path.suffix in SHIPPED}
    assert {"r1rl/report/assets/main.js", "r1rl/report/templates/page.html"} <= assets
    rewards = {f"r1rl_rewards/{path.name}" for path in (ROOT / "rewards").glob("*.py")}
    launch = {f"r1rl/launch/{path.name}" for path in (ROOT / "launch/accelerate").glob("*.yaml")}
    assert assets | rewards | launch <= names
    assert not any(name.startswith("tests/") for name in names)


def test_the_wheel_tells_vllm_of_its_weight_transfer(built: dict[str, Path]) -> None:
    """Without the entry point no server takes weights, and only a fresh installation shows it."""
    with zipfile.ZipFile(built["wheel"]) as wheel:
        (listed,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        entries = configparser.ConfigParser()
        entries.read_string(wheel.read(listed).decode())
        module, _, function = entries["vllm.general_plugins"]["r1rl"].partition(":")
        assert f"def {function}(" in wheel.read(module.replace(".", "/") + ".py").decode()


def test_it_runs_elsewhere_with_a_reward_of_the_user(built: dict[str, Path], tmp_path: Path) -> None:
    env = tmp_path / "env"
    run(sys.executable, "-m", "venv", "--without-pip", env, cwd=tmp_path)
    (site,) = env.glob("lib/python*/site-packages")
    zipfile.ZipFile(built["wheel"]).extractall(site)
    # Its dependencies come from here; a .pth file adds the folder without this tree's own editable install.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (tmp_path / "mine.py").write_text(REWARD)
    (tmp_path / "zero.yaml").write_text((ROOT / "configs/tiny/zero.yaml").read_text())
    python = env / "bin/python"
    where = run(python, "-c", "import r1rl; print(r1rl.__file__)", cwd=tmp_path)
    assert where.startswith(str(site))
    run(python, "-m", "r1rl", "run", "zero.yaml", *SMALL, "rewards.short.function=mine.py:short", cwd=tmp_path)
    assert "reward/short/mean" in (tmp_path / "runs/tiny-zero/zero/metrics.jsonl").read_text()
    code = "from r1rl.config.paths import launch_file, launch_names; print(*map(launch_file, launch_names()))"
    found = run(python, "-c", code, cwd=tmp_path).split()
    assert {Path(file).name for file in found} == {file.name for file in (ROOT / "launch/accelerate").iterdir()}
    assert all(file.startswith(str(site)) for file in found)
    run(python, "-m", "r1rl", "report", "runs/tiny-zero", "--out", "page.html", cwd=tmp_path)
    assert "reward/short/mean" in (tmp_path / "page.html").read_text()
