"""What the project's own files say of each other: workflows, hooks, the Makefile and pyproject.toml agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
TEMPLATES = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job.get("steps", ())]


def target(name: str) -> list[str]:
    """The commands of a target of the Makefile, without the folder of the environment."""
    match = re.search(rf"^{name}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None, name
    return [line.strip().removeprefix("$(BIN)/") for line in match[1].splitlines()]


def test_ci_runs_every_python_that_is_supported() -> None:
    tested = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    supported = SpecifierSet(PROJECT["requires-python"])
    assert tested == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in supported]
    stated = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if name.startswith("Programming Language")]
    assert [version for version in stated if "." in version] == tested


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_what_there_is(workflow: Path) -> None:
    words = [word for step in steps(workflow) for word in re.findall(r"^(?:make (\S+)|(\.\S+))", step.get("run", ""))]
    for made, script in words:
        assert target(made) if made else (ROOT / script).is_file()


def test_hooks_run_what_make_lint_runs() -> None:
    (local,) = read(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = [hook["entry"] for hook in local["hooks"]]
    for command in target("lint"):
        words = command.removesuffix(" .").replace(" --check", "")
        assert any(hook.startswith(words) for hook in hooks), command


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_issue_templates_ask_for_something(template: Path) -> None:
    form = read(template)
    if template.stem != "config":
        assert {"name", "description", "body"} <= form.keys()
        assert all(field["attributes"]["label"] for field in form["body"])


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    entries = [
        entry
        for part in site["nav"]
        for value in part.values()
        for entry in ([value] if isinstance(value, str) else value)
    ]
    assert sorted(entries) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_pages_of_the_site_link_to_each_other_only() -> None:
    outside = [path.name for path in (ROOT / "docs").glob("*.md") if "](../" in path.read_text(encoding="utf-8")]
    assert not outside
