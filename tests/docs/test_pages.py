"""What the pages say about code, keys and files is so."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from r1rl.config import RunConfig, load_config
from r1rl.config.docs import counterparts
from r1rl.config.elsewhere import VERL
from r1rl.config.walk import sections
from r1rl.recipe.graph import graph
from r1rl.recipe.plan import Machine, estimate
from tests.support.documents import PAGES, ROOT, Block, anchors, blocks, links

DOCS = ROOT / "docs"
KEYS = {
    ".".join(p for p in (path, name) if p) for path, section, _ in sections(RunConfig) for name in section.model_fields
}
SYMBOL = re.compile(r"`((?:r1rl|r1rl_rewards)[\w.]*):([\w.]+)`")
DOTTED = re.compile(r"`((?:[a-z_]+|NAME)(?:\.(?:[a-z_]+|NAME))+)`")


def symbols(page: Path) -> list[tuple[str, str]]:
    return SYMBOL.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [DOCS / "algorithm.md", DOCS / "architecture.md"], ids=lambda page: page.name)
def test_the_code_that_a_page_names_exists(page: Path) -> None:
    found = symbols(page)
    assert len(found) > 20
    for module, path in found:
        value: Any = importlib.import_module(module)
        for name in path.split("."):
            assert hasattr(value, name), f"{page.name}: no {module}:{path}"
            value = getattr(value, name)


def test_the_table_of_losses_is_the_code() -> None:
    from r1rl.registry import LOSSES

    text = (DOCS / "algorithm.md").read_text(encoding="utf-8")
    names = {"token_clip": "token clip", "sequence_clip": "sequence clip", "capped_reinforce": "capped REINFORCE"}
    names |= {"covariance_clip": "covariance clip", "covariance_kl": "covariance KL"}
    for name, loss in LOSSES.items():
        weight = r"$1/\lvert o_i\rvert$" if loss.weight.__name__ == "per_sequence" else "1"
        assert f"| `{name}` | {names[loss.surrogate.__name__]} | {weight} |" in text


def known(key: str) -> bool:
    return any(re.fullmatch(re.escape(known).replace("NAME", r"[\w-]+"), key) for known in KEYS)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "config.md"], ids=lambda page: page.name)
def test_configuration_keys_exist(page: Path) -> None:
    roots = {key.split(".")[0] for key in KEYS}
    found = set(DOTTED.findall(page.read_text(encoding="utf-8"))) - VERL.keys()
    named = {key for key in found if key.split(".")[0] in roots}
    assert [
        key for key in sorted(named) if not known(key) and not key.endswith((".py", ".md", ".yaml", ".jsonl"))
    ] == []


def test_the_page_holds_the_table_of_the_answers() -> None:
    assert counterparts() in (DOCS / "from-trl.md").read_text(encoding="utf-8"), (
        "between the marks: python -m r1rl.config.docs from-trl"
    )


@pytest.mark.parametrize("block", blocks("yaml", "yml"), ids=str)
def test_yaml_is_configuration(block: Block, tmp_path: Path) -> None:
    tree = yaml.safe_load(block.text)
    if not isinstance(tree, dict) or not set(tree) <= {*RunConfig.model_fields, "extends"}:
        pytest.skip("YAML of another program")
    allowed(tree, RunConfig, block)
    data = {"train": {"x": {"path": "x.jsonl"}}, "eval": {"y": {"path": "y.jsonl"}}}
    whole = {"model": "x", "data": data, "rewards": {"accuracy": 1.0}} | tree
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    load_config(tmp_path / "x.yaml", ())


def allowed(tree: dict[str, Any], section: type[BaseModel], block: Block) -> None:
    unknown = set(tree) - set(section.model_fields) - {"extends"}
    assert not unknown, f"{block}: unknown keys {unknown}"


@pytest.mark.parametrize(("page", "target"), links(), ids=lambda value: value)
def test_links_lead_somewhere(page: str, target: str) -> None:
    base = ROOT if (ROOT / page).is_file() else DOCS
    assert (base / target).exists(), f"{page} links to {target}"


def test_links_to_headings_lead_somewhere() -> None:
    for page in PAGES:
        for file, heading in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not file.startswith("http"):
                assert heading in anchors(page.parent / file if file else page), f"{page.name}: {file}#{heading}"


def test_every_guide_is_named_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_no_page_names_this_machine() -> None:
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        assert not re.search(r"/work/|/tmp/|/root/", page.read_text(encoding="utf-8")), page.name


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_imports_what_there_is(block: Block) -> None:
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("r1rl", "r1rl_rewards"):
            module = importlib.import_module(str(node.module))
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            assert not missing, f"{block}: {node.module} has no {missing}"


def headers_with_hours() -> list[tuple[Path, str, int]]:
    """Configurations whose header says what a dry run estimates: file, what the machine is, hours."""
    found = []
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if hours := re.search(r"estimates (\d+) hours", text):
            machine = re.search(r"--dry-run (--devices .*)", text)
            found.append((path, machine[1] if machine else "", int(hours[1])))
    return found


@pytest.mark.parametrize(("path", "machine", "hours"), headers_with_hours(), ids=str)
def test_the_hours_in_a_header_are_those_of_the_dry_run(path: Path, machine: str, hours: int, tmp_path: Path) -> None:
    devices, tflops = (re.search(rf"--{option} ([\d.]+)", machine) for option in ("devices", "tflops"))
    assert devices is not None, f"{path} names no devices"
    plan = estimate(graph(load_config(path)), tmp_path)
    peak = Machine.of(int(devices[1]), float(tflops[1]) if tflops else 989.0)
    assert round(sum(peak.seconds(each.work) for each in plan.values() if each.work) / 3600) == hours
