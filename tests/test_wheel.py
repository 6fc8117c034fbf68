"""What is built is whole: the wheel runs the demo and a user's own reward in an environment and a folder of its own."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import r1rl
from tests.support.small_demo import SMALL
from tests.support.waits import HANG_S

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
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


def environment(folder: Path, archive: Path) -> Path:
    """The Python of a fresh environment with a wheel in it, whose dependencies come from this environment."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    zipfile.ZipFile(archive).extractall(site)
    # A .pth file adds the folder, and not what its own .pth files add: this tree's editable install is left out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin/python"


def files_of(package: Path, name: str) -> set[str]:
    """The files of a package's folder, under the name that it is installed by."""
    files = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
    return {f"{name}/{path.as_posix()}" for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(built: dict[str, Path]) -> None:
    names = {name for name in zipfile.ZipFile(built["wheel"]).namelist() if ".dist-info/" not in name}
    sources = files_of(ROOT / "src/r1rl", "r1rl") | files_of(ROOT / "rewards", "r1rl_rewards")
    assert names == sources | files_of(ROOT / "launch/accelerate", "r1rl/launch")
    assert {"r1rl/py.typed", "r1rl_rewards/py.typed", "r1rl/report/assets/main.js"} <= names
    assert "r1rl/report/templates/page.html" in names


def test_the_source_distribution_holds_no_link(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        assert all(member.isfile() or member.isdir() for member in archive.getmembers())
    listed = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True).stdout
    assert not [line for line in listed.splitlines() if line.startswith("120000")]


def test_the_version_is_the_one_of_the_package(built: dict[str, Path]) -> None:
    name = f"r1rl-{r1rl.__version__}"
    assert built["sdist"].name == f"{name}.tar.gz"
    assert built["wheel"].name == f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(built["wheel"]) as wheel:
        assert f"Version: {r1rl.__version__}" in wheel.read(f"{name}.dist-info/METADATA").decode().splitlines()


def test_an_editable_install_follows_the_repository(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    for name in ("src", "rewards", "launch"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    run(sys.executable, "-c", f"import setuptools.build_meta as b; b.build_editable({str(tmp_path)!r})", cwd=clone)
    (wheel,) = tmp_path.glob("*.whl")
    python = environment(tmp_path / "env", wheel)
    (clone / "rewards/added.py").write_text("def one(completions, **kwargs):\n    return [1.0 for _ in completions]\n")
    code = """
import r1rl, r1rl_rewards
from r1rl.config.paths import SHIPPED
from r1rl.fingerprint.code import code_of_module
from r1rl.scoring.load import REWARDS
assert REWARDS.load("r1rl_rewards.added:one")(["a"]) == [1.0]
assert "r1rl_rewards.texts" in code_of_module("r1rl_rewards.accuracy")
print(r1rl.__file__, r1rl_rewards.__file__, SHIPPED, sep="\\n")
"""
    found = [Path(line) for line in run(python, "-c", code, cwd=tmp_path).split()]
    assert found == [clone / "src/r1rl/__init__.py", clone / "rewards/__init__.py", clone / "launch/accelerate"]


def test_the_wheel_tells_vllm_of_its_weight_transfer(built: dict[str, Path]) -> None:
    """Without the entry point no server takes weights, and only a fresh installation shows it."""
    with zipfile.ZipFile(built["wheel"]) as wheel:
        (listed,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        entries = configparser.ConfigParser()
        entries.read_string(wheel.read(listed).decode())
        module, _, function = entries["vllm.general_plugins"]["r1rl"].partition(":")
        assert f"def {function}(" in wheel.read(module.replace(".", "/") + ".py").decode()


def test_it_runs_elsewhere_with_a_reward_of_the_user(built: dict[str, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "env", built["wheel"])
    site = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "env")})
    (tmp_path / "mine.py").write_text(REWARD)
    (tmp_path / "zero.yaml").write_text((ROOT / "configs/tiny/zero.yaml").read_text())
    where = run(python, "-c", "import r1rl; print(r1rl.__file__)", cwd=tmp_path)
    assert where.startswith(site)
    run(python, "-m", "r1rl", "run", "zero.yaml", *SMALL, "rewards.short.function=mine.py:short", cwd=tmp_path)
    assert "reward/short/mean" in (tmp_path / "runs/tiny-zero/zero/metrics.jsonl").read_text()
    code = "from r1rl.config.paths import launch_file, launch_names; print(*map(launch_file, launch_names()))"
    found = run(python, "-c", code, cwd=tmp_path).split()
    assert {Path(file).name for file in found} == {file.name for file in (ROOT / "launch/accelerate").iterdir()}
    assert all(file.startswith(site) for file in found)
    run(python, "-m", "r1rl", "report", "runs/tiny-zero", "--out", "page.html", cwd=tmp_path)
    assert "reward/short/mean" in (tmp_path / "page.html").read_text()
