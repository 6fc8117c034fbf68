"""Files that survive being cut off anywhere, and hold every step once."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1rl.tracking.jsonl import JsonLines, plain, read_jsonl


def write(path: Path, steps: range, resume: int | None) -> None:
    file = JsonLines(path, resume)
    for step in steps:
        file.merge(step, {"loss": step / 2})
    file.close()


def test_a_step_is_one_line_however_often_it_is_logged(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    file = JsonLines(path, None)
    file.merge(1, {"a": 1})
    file.merge(1, {"b": 2})
    file.merge(2, {"a": 3})
    file.merge(2, {"a": 4})
    assert list(read_jsonl(path)) == [{"step": 1, "a": 1, "b": 2}, {"step": 2, "a": 4}]  # flushed, not closed
    with pytest.raises(ValueError, match="step 1 comes after step 2"):
        file.merge(1, {})
    file.close()
    again = JsonLines(path, 2)
    again.merge(2, {"eval": 5})
    again.close()
    assert list(read_jsonl(path))[-1] == {"step": 2, "a": 4, "eval": 5}


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), checkpoint=st.integers(-1, 9), garbage=st.binary(max_size=5))
def test_cut_anywhere_and_resumed_equals_uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, cut: int, checkpoint: int, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("j")
    whole, path = folder / "whole.jsonl", folder / "cut.jsonl"
    write(whole, range(10), None)
    data = whole.read_bytes()
    path.write_bytes(data[:cut] + garbage)
    # A checkpoint is written after its step's line.
    checkpoint = min(checkpoint, data[:cut].count(b"\n") - 1)
    write(path, range(checkpoint + 1, 10), checkpoint)
    assert path.read_bytes() == data


def test_starting_anew_empties_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write(path, range(3), None)
    write(path, range(1), None)
    assert [record["step"] for record in read_jsonl(path)] == [0]
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_numbers_that_json_cannot_hold() -> None:
    record = {"loss": math.nan, "kl": -math.inf, "n": np.int64(3), "x": np.float32(0.5), "none": None, "ok": True}
    assert plain(record) == {
        "loss": None,
        "loss/non_finite": 1,
        "kl": None,
        "kl/non_finite": 1,
        "n": 3,
        "x": 0.5,
        "none": None,
        "ok": True,
    }
    assert plain({"r": {"a": math.inf}, "v": np.array([1.0, math.nan])}) == {
        "r": {"a": None, "a/non_finite": 1},
        "v": [1.0, None],
    }


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    line = json.dumps(plain({"t": text}), ensure_ascii=False).encode("utf-8", "backslashreplace")
    assert json.loads(line) == {"t": text}


def test_lone_surrogates_and_line_breaks(tmp_path: Path) -> None:
    text = "a\udc80b\u2028c\n中文\x1b[2J"
    file = JsonLines(tmp_path / "s.jsonl", None)
    file.append(0, {"completion": text})
    file.append(0, {"completion": "second"})
    file.close()
    assert [record["completion"] for record in read_jsonl(tmp_path / "s.jsonl")] == [text, "second"]
