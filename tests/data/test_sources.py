from __future__ import annotations

import json

import pytest

from r1rl.config.data import DatasetConfig
from r1rl.data import sources
from r1rl.data.sources import load_rows, read_rows, register_generated
from r1rl.errors import DataError

ROWS = [{"question": f"{i} + {i}", "answer": 2 * i} for i in range(5)]


@pytest.fixture
def folder(tmp_path):
    """The same rows in every local format."""
    import pyarrow
    import pyarrow.parquet

    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "lines.json").write_text(lines)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "lines.json", "rows.parquet"])
def test_local_files(folder, name):
    path = str(folder / name)
    assert load_rows(DatasetConfig(path=path)) == ROWS
    assert load_rows(DatasetConfig(path=path, skip=1, limit=2)) == ROWS[1:3]
    assert load_rows(DatasetConfig(path=path, split="test", subset="main")) == ROWS, "a file is one split"
    with pytest.raises(DataError, match="is empty after skip: 5; check its path, split and skip"):
        load_rows(DatasetConfig(path=path, skip=5))


def test_a_folder_is_read_by_datasets(folder):
    (folder / "only").mkdir()
    (folder / "rows.jsonl").rename(folder / "only" / "train.jsonl")
    config = DatasetConfig(path=str(folder / "only"), skip=1, limit=3)
    assert load_rows(config) == ROWS[1:4]
    with pytest.raises(DataError, match=r"split 'nope'\) cannot be loaded: .*nope.*; check path, subset and split"):
        load_rows(config.model_copy(update={"split": "nope"}))


def test_missing_datasets(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"rows\.jsonl does not exist .*; correct data"):
        load_rows(DatasetConfig(path=str(tmp_path / "rows.jsonl")))
    with pytest.raises(DataError, match=r"dataset \./rows does not exist; give a \.jsonl"):
        load_rows(DatasetConfig(path="./rows"))

    import datasets

    def absent(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'no/such' doesn't exist on the Hub\nmore lines")

    monkeypatch.setattr(datasets, "load_dataset", absent)
    with pytest.raises(DataError) as error:
        load_rows(DatasetConfig(path="no/such", subset="main"))
    assert str(error.value) == (
        "dataset no/such (subset 'main', split 'train') cannot be loaded: Dataset 'no/such' doesn't exist on the Hub; "
        "check path, subset and split, or download it and give the local file"
    )


@pytest.mark.parametrize("bad", [b'{"question": ', b"[1, 2]", b"\xff\xfe", b'{"a": ' + b"[" * 100_000])
def test_corrupt_lines_are_named_or_counted(tmp_path, bad):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"question": "1 + 1"}\n\n' + bad + b'\n{"question": "2 + 2"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl line 3 is corrupt: .*; mend the line, or set on_bad_row: skip"):
        load_rows(DatasetConfig(path=str(path)))
    rows = read_rows(DatasetConfig(path=str(path), on_bad_row="skip"))
    assert [row.place for row in rows.rows] == ["line 1", "line 4"]
    assert rows.skipped == {"corrupt": 1}


def test_corrupt_files(tmp_path):
    (tmp_path / "a.json").write_text('{"rows": []}')
    with pytest.raises(DataError, match="must hold a list of rows, and holds a dict"):
        load_rows(DatasetConfig(path=str(tmp_path / "a.json")))
    (tmp_path / "b.json").write_text("[1")
    with pytest.raises(DataError, match=r"b\.json is not JSON"):
        load_rows(DatasetConfig(path=str(tmp_path / "b.json")))
    (tmp_path / "c.json").write_text('[{"question": "Q"}, 7]')
    with pytest.raises(DataError, match="row 2 is no object"):
        load_rows(DatasetConfig(path=str(tmp_path / "c.json")))
    assert read_rows(DatasetConfig(path=str(tmp_path / "c.json"), on_bad_row="skip")).skipped == {"corrupt": 1}
    (tmp_path / "d.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_rows(DatasetConfig(path=str(tmp_path / "d.parquet")))


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.json"])
def test_empty_files(tmp_path, name):
    (tmp_path / name).write_text("" if name.endswith("l") else "[]")
    with pytest.raises(DataError, match="is empty; check its path, split and skip"):
        load_rows(DatasetConfig(path=str(tmp_path / name)))


def test_generated_rows(monkeypatch):
    monkeypatch.setitem(sources.GENERATED, "doubles", None)  # and out again when the test ends

    @register_generated("doubles")
    def doubles(size: int = 3):
        return ROWS[:size]

    assert load_rows(DatasetConfig(path="generated:doubles")) == ROWS[:3]
    assert load_rows(DatasetConfig(path="generated:doubles", args={"size": 4}, skip=1)) == ROWS[1:4]
    with pytest.raises(DataError, match=r"cannot take these args: .*'much'; it takes size"):
        load_rows(DatasetConfig(path="generated:doubles", args={"much": 1}))
    with pytest.raises(DataError, match=r"generated:triples is unknown; there are .*doubles"):
        load_rows(DatasetConfig(path="generated:triples"))
    with pytest.raises(DataError, match="cannot be imported"):
        load_rows(DatasetConfig(path="generated:no_such_module:rows"))
    made = load_rows(DatasetConfig(path="generated:r1rl.data.countdown:countdown", args={"size": 2}))
    assert len(made) == 2
