from __future__ import annotations

import csv
import json

import pytest

from r1rl.config.data import DatasetConfig
from r1rl.data.sources import count_rows, load_rows, read_rows
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
    (tmp_path / "bom.jsonl").write_text(lines, encoding="utf-8-sig")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    return tmp_path


@pytest.mark.parametrize("name", ["rows.jsonl", "bom.jsonl", "rows.json", "lines.json", "rows.parquet"])
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
    with pytest.raises(DataError, match=r"rows\.jsonl line 3 is corrupt: .*; fix the line, or set on_bad_row: skip"):
        load_rows(DatasetConfig(path=str(path)))
    rows = read_rows(DatasetConfig(path=str(path), on_bad_row="skip"))
    assert [row.place for row in rows.rows] == ["line 1", "line 4"]
    assert rows.skipped == {"corrupt": 1}


def test_corrupt_files(tmp_path):
    (tmp_path / "a.json").write_text('{"rows": []}')
    with pytest.raises(DataError, match="must be a list of rows, not a dict"):
        load_rows(DatasetConfig(path=str(tmp_path / "a.json")))
    (tmp_path / "b.json").write_text("[1")
    with pytest.raises(DataError, match=r"b\.json is not JSON"):
        load_rows(DatasetConfig(path=str(tmp_path / "b.json")))
    (tmp_path / "c.json").write_text('[{"question": "Q"}, 7]')
    with pytest.raises(DataError, match="row 2 is not an object"):
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


TABLE = [
    {"Question": "What is 3+4, then?", "Réponse": "007", "Note 1": 'say "hi"', "题目": "两行\n文字"},
    {"Question": "x" * 200_000, "Réponse": "1.50", "Note 1": "", "题目": "NA"},
]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "ROWS.CSV"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_keep_every_cell_as_it_stands(tmp_path, name, encoding):
    path = tmp_path / name
    for delimiter in "\t" if name.endswith("tsv") else ",;\t":
        with path.open("w", encoding=encoding, newline="") as file:
            writer = csv.DictWriter(file, list(TABLE[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(TABLE)
        assert load_rows(DatasetConfig(path=str(path))) == TABLE
        assert load_rows(DatasetConfig(path=str(path), skip=1, limit=5)) == TABLE[1:]
        assert count_rows(DatasetConfig(path=str(path))) == 2


def test_tables_agree_with_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLE)
    frame.to_csv(tmp_path / "rows.csv")
    assert load_rows(DatasetConfig(path=str(tmp_path / "rows.csv"))) == TABLE, "the index has no name: it is left out"
    (tmp_path / "folder").mkdir()
    frame.to_csv(tmp_path / "folder" / "train.csv", index=False)
    assert load_rows(DatasetConfig(path=str(tmp_path / "folder"))) == TABLE


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("a,b,c", "3 cells, but the first line names 2"),
        ("a", "1 cells, but the first line names 2"),
        ('"a" b,c', "',' expected after"),
    ],
)
def test_corrupt_lines_of_a_table(tmp_path, bad, why):
    path = tmp_path / "rows.csv"
    path.write_text(f'question,answer\n"1\n+ 1",2\n\n{bad}\n2 + 2,4\n')
    with pytest.raises(DataError, match=rf"rows\.csv line 5 is corrupt: .*{why}.*on_bad_row: skip"):
        load_rows(DatasetConfig(path=str(path)))
    rows = read_rows(DatasetConfig(path=str(path), on_bad_row="skip"))
    assert [row.place for row in rows.rows] == ["line 2", "line 6"]
    assert rows.skipped == {"corrupt": 1}


def test_tables_that_cannot_be_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('question,answer\n"never closed,1\n2,2\n')
    with pytest.raises(DataError, match=r"line 2 is corrupt: unexpected end of data"):
        load_rows(DatasetConfig(path=str(path)))
    path.write_bytes("question,answer\n3 × 4,12\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"rows\.csv is not UTF-8 .*save it as UTF-8"):
        load_rows(DatasetConfig(path=str(path)))
    path.write_text("question,answer,question\n1,2,3\n")
    with pytest.raises(DataError, match="two columns called 'question'"):
        load_rows(DatasetConfig(path=str(path)))
    for text in ("", "question,answer\n"):
        path.write_text(text)
        with pytest.raises(DataError, match="is empty"):
            load_rows(DatasetConfig(path=str(path)))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mine.csv", r"dataset file mine\.csv does not exist .*; did you mean mind\.csv\?; correct data"),
        ("notes.txt", "notes.txt has an unsupported format; use .jsonl or"),
        ("table.xlsx", "dataset file table.xlsx does not exist"),
        ("a/b/c", "dataset a/b/c does not exist"),
        ("~/no such folder", "does not exist"),
        ("models/rows", None),
    ],
)
def test_what_is_on_the_disk_is_not_asked_of_the_hub(tmp_path, monkeypatch, path, message):
    import datasets

    def asked(*args, **kwargs):
        raise datasets.exceptions.DatasetNotFoundError("asked the hub")

    monkeypatch.setattr(datasets, "load_dataset", asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mind.csv").write_text("question,answer\n1,2\n")
    (tmp_path / "notes.txt").write_text("1")
    with pytest.raises(DataError, match=message or "asked the hub"):
        load_rows(DatasetConfig(path=path))


def test_generated_rows(tmp_path):
    (tmp_path / "mine.py").write_text(f"def doubles(size: int = 3):\n    return {ROWS!r}[:size]\n")
    path = f"generated:{tmp_path}/mine.py:doubles"
    assert load_rows(DatasetConfig(path=path)) == ROWS[:3]
    assert load_rows(DatasetConfig(path=path, args={"size": 4}, skip=1)) == ROWS[1:4]
    with pytest.raises(DataError, match=r"cannot take these args: .*'much'; it takes size"):
        load_rows(DatasetConfig(path=path, args={"much": 1}))
    with pytest.raises(DataError, match=r"no generated source is called 'triples'; registered: .*countdown"):
        load_rows(DatasetConfig(path="generated:triples"))
    with pytest.raises(DataError, match="module 'no_such_module' does not import"):
        load_rows(DatasetConfig(path="generated:no_such_module:rows"))
    made = load_rows(DatasetConfig(path="generated:r1rl.data.countdown:countdown", args={"size": 2}))
    assert len(made) == 2
