"""Which source files count as the code of a reward or generator."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1rl.fingerprint.code import code_of_file, code_of_module


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_file_and_the_neighbours_that_it_imports(tmp_path: Path) -> None:
    write(
        tmp_path,
        own="import json\nimport near\nfrom tools import words\ndef f():\n    import late\n",
        near="import far, own",
        far="",
        late="",
        tools__words="",
        unused="",
    )
    assert set(code_of_file(tmp_path / "own.py")) == {"own", "near", "far", "late", "tools.words"}


def test_a_file_inside_a_package_imports_relatively(tmp_path: Path) -> None:
    write(tmp_path, pack__own="from . import near\nfrom .deep import thing\n", pack__near="", pack__deep="", other="")
    (tmp_path / "pack" / "__init__.py").write_text("")
    assert {"pack.own", "pack.near", "pack.deep"} <= set(code_of_file(tmp_path / "pack" / "own.py"))


def test_a_module_and_its_package_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, pkg__mod="from ..pkg import two\nfrom pkg.sub.three import x\nimport numpy\n", pkg__two="")
    write(tmp_path, pkg__sub__three="raise SystemExit\n")
    for folder in ("pkg", "pkg/sub"):
        (tmp_path / folder / "__init__.py").write_text("raise SystemExit\n")
    monkeypatch.chdir(tmp_path)  # a console script does not search it, rewards are found there all the same
    assert {"pkg.mod", "pkg.two", "pkg.sub.three"} <= set(code_of_module("pkg.mod"))
    assert code_of_module("pkg.gone") == {}
    assert code_of_module("nowhere.at_all") == {}


def test_a_reward_of_our_own_counts_with_the_checker_that_it_asks() -> None:
    found = code_of_module("r1rl_rewards.accuracy")
    assert {"r1rl_rewards.accuracy", "r1rl_rewards.texts", "r1rl.verify"} <= set(found)
    assert "r1rl.verify" not in code_of_module("r1rl_rewards.format")


def test_source_that_does_not_parse_still_counts(tmp_path: Path) -> None:
    write(tmp_path, own="def f(:\n")
    before = code_of_file(tmp_path / "own.py")
    write(tmp_path, own="def g(:\n")
    assert before != code_of_file(tmp_path / "own.py")
