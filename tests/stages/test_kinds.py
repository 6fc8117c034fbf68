"""A kind of stage is one registration: every command works with one that r1rl has never seen."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from r1rl.cli import main
from r1rl.config import load_config
from r1rl.config.kinds import Kind
from r1rl.errors import ConfigError
from r1rl.registry import KINDS

COUNT = """
from r1rl.config.base import Section
from r1rl.config.kinds import Kind


class CountKeys(Section):
    column: str
    at_least: int = 1


def run(ctx):
    from r1rl.data.sources import first_rows
    from r1rl.stages.base import StageResult

    rows = [row.values for source in ctx.config.data.train.values() for row in first_rows(source, 100)]
    kept = [row for row in rows if len(str(row[ctx.args.column])) >= ctx.args.at_least]
    path = ctx.folder / "data.jsonl"
    path.write_text("".join(f'{{"question": "{row["question"]}", "answer": "1"}}\\n' for row in kept))
    (ctx.folder / "metrics.jsonl").write_text('{"step": 1, "kept": %d}\\n' % len(kept))
    return StageResult(data=path, metrics={"kept": len(kept)})


COUNT = Kind(
    entry="counting:run",
    uses=("data",),
    args=CountKeys,
    outputs=frozenset({"data"}),
    rows=("data.train",),
    planned=lambda view, rows: (0.0, 10.0 * (rows["data.train"] or 0)),
    handed_on=lambda view, rows: rows["data.train"],
)
"""
RUN = """
name: counted
output_dir: {folder}
device: cpu
data: {{ train: {{ sums: {{ path: rows.jsonl }} }} }}
stages:
  long: {{ kind: {kind}, args: {{ column: question, at_least: 3 }} }}
  longer: {{ kind: {kind}, data: "${{long.data}}", args: {{ column: question, at_least: 5 }} }}
"""


@pytest.fixture(params=["counting:COUNT", "count"])
def config(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run of two stages of a kind in the current folder, named as a module or registered under a name."""
    (tmp_path / "counting.py").write_text(COUNT)
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"question": "{"7" * n}", "answer": "1"}}\n' for n in range(1, 9)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.syspath_prepend(str(tmp_path))
    if request.param == "count":
        monkeypatch.setitem(KINDS.entries, "count", "counting:COUNT")
    path = tmp_path / "run.yaml"
    path.write_text(RUN.format(folder=tmp_path, kind=request.param))
    yield path
    sys.modules.pop("counting", None)


def command(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(str(ended.value.code or 0))


def test_a_kind_of_ones_own_takes_one_registration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", config) == 0
    assert "has the columns question, answer" in capsys.readouterr().out
    assert command("run", config, "--dry-run", "--devices", "1") == 0
    assert "builds on" in capsys.readouterr().out

    folder = config.parent / "counted"
    assert command("run", config) == 0
    assert len((folder / "long" / "data.jsonl").read_text().splitlines()) == 6
    assert len((folder / "longer" / "data.jsonl").read_text().splitlines()) == 4
    capsys.readouterr()

    assert command("run", config) == 0
    assert capsys.readouterr().out.count("done already, unchanged") == 2
    assert command("run", config, "stages.longer.args.at_least=8") == 2
    assert "stage longer: args.at_least 5 → 8 (finished)" in capsys.readouterr().err
    assert command("run", config, "stages.longer.args.at_least=8", "--yes") == 0
    assert len((folder / "longer" / "data.jsonl").read_text().splitlines()) == 1
    assert (folder / "longer.1" / "data.jsonl").is_file()
    assert command("run", folder / "config.yaml") == 0, "the resolved configuration is the same run"
    capsys.readouterr()

    assert command("status", folder) == 0
    assert "kept 1" in capsys.readouterr().out
    assert command("report", folder) == 0
    assert "longer" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.long.args.colum=x", "stages.long.args.colum: unknown key; a stage of kind"),
        ("stages.long.args.at_least=many", "stages.long.args.at_least: Input should be a valid integer"),
        ("stages.long.kind=nowhere:COUNT", "stages.long.kind: kind of stage module 'nowhere' does not import"),
        ("stages.long.kind=counting:NONE", "stages.long.kind: kind of stage counting has no 'NONE'"),
        ("stages.long.kind=counting:run", "stages.long.kind: counting:run is not a r1rl.config.kinds.Kind"),
        ("stages.long.kind=cuont", "stages.long.kind: no kind of stage is called 'cuont'"),
        ("stages.long.kind=sft", "stages.long.args: a stage of kind sft takes none; its keys go under sft"),
        ("stages.longer.args.column=${long.model}", "${long.model}: a stage of kind"),
    ],
)
def test_what_is_wrong_with_it_is_said_by_check(config: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, [override])
    assert message in str(caught.value)


def test_every_row_names_parts_of_the_configuration_and_an_entry_that_is_there() -> None:
    from importlib.util import find_spec

    from r1rl.config import RunConfig
    from r1rl.config.references import pick

    dumped = RunConfig().model_dump()
    for name, kind in KINDS.items():
        assert isinstance(kind, Kind)
        assert kind.section == name
        assert find_spec(kind.entry.partition(":")[0]) is not None
        for part in (*kind.parts, *kind.rows, *kind.columns, *kind.mixes):
            pick(dumped, part)
