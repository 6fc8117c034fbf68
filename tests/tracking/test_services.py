"""Real runs of each service, read back; none of them may need the network."""

from __future__ import annotations

import json
import math
import re
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from r1rl.config import TrackingConfig
from r1rl.errors import ConfigError
from r1rl.tracking import NullTracker, Tracker, build_tracker, read_jsonl
from r1rl.tracking.base import CompositeTracker, FileTracker, cells
from tests.support.waits import until
from tests.support.wandb_file import log_records

CONFIG = {"grpo": {"learning_rate": 1e-5}, "rewards": {"accuracy": {"weight": 1.0}}}
ROWS = [
    {"prompt": "1+1", "completion": "<b>2</b>", "accuracy": None},
    {"prompt": [{"role": "user", "content": "2+2"}], "completion": "5", "accuracy": 0.5},
]


def start(folder: Path, *services: str, resume: int | None = None) -> Tracker:
    return build_tracker(TrackingConfig(report_to=list(services), project="proj"), folder, "run/zero", CONFIG, resume)


def interrupted(folder: Path, *services: str) -> None:
    """Steps 1 to 4, then again from the checkpoint of step 2 to step 6."""
    first = start(folder, *services)
    for step in range(1, 5):
        first.log(step, {"reward/mean": step / 10, "policy/loss": math.nan if step == 2 else 1.0})
    first.samples(4, ROWS)
    first.close()
    if "wandb" in services:
        time.sleep(1.1)  # it names the folder of an offline run by the second
    second = start(folder, *services, resume=2)
    for step in range(3, 7):
        second.log(step, {"reward/mean": step / 10, "policy/loss": 1.0})
        second.samples(step, ROWS)
    second.close()


def no_failures(folder: Path) -> bool:
    return all("system/tracker_failures" not in record for record in read_jsonl(folder / "metrics.jsonl"))


def test_files(tmp_path: Path) -> None:
    interrupted(tmp_path)
    records = list(read_jsonl(tmp_path / "metrics.jsonl"))
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert records[1] == {"step": 2, "reward/mean": 0.2, "policy/loss": None, "policy/loss/non_finite": 1}
    samples = list(read_jsonl(tmp_path / "samples.jsonl"))
    assert [sample["step"] for sample in samples] == [3, 3, 4, 4, 5, 5, 6, 6]
    assert samples[0] == {"step": 3, **ROWS[0]}


def test_a_rank_that_does_not_report(tmp_path: Path) -> None:
    tracker = build_tracker(TrackingConfig(), tmp_path / "x", "r", {}, is_main=False)
    assert isinstance(tracker, NullTracker)
    tracker.log(0, {"a": 1.0})
    tracker.samples(0, ROWS)
    tracker.close()
    assert not (tmp_path / "x").exists()


def test_resuming_keeps_the_run_id_and_starting_anew_does_not(tmp_path: Path) -> None:
    def run_id() -> str:
        return str(json.loads((tmp_path / "tracking.json").read_text())["run_id"])

    start(tmp_path).close()
    first = run_id()
    start(tmp_path, resume=3).close()
    assert run_id() == first
    start(tmp_path).close()
    assert run_id() != first
    (tmp_path / "tracking.json").write_text('{"run')
    start(tmp_path, resume=3).close()
    assert len(run_id()) == 12


def test_a_service_that_fails_is_counted_and_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(NullTracker):
        def __init__(self, start: Any) -> None:
            pass

        def log(self, step: int, metrics: Any) -> None:
            raise ConnectionError("no route")

    broken = types.ModuleType("broken")
    broken.Broken = Broken  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "broken", broken)
    tracker = start(tmp_path, "broken:Broken")
    tracker.log(1, {"a": 1.0})
    tracker.log(2, {"a": 2.0})
    tracker.close()
    [message] = caplog.messages
    assert re.fullmatch("Broken could not log.*no route.*the run continues", message)
    assert [r["system/tracker_failures"] for r in read_jsonl(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    monkeypatch.delitem(sys.modules, "r1rl.tracking.to_trackio", raising=False)
    with pytest.raises(ConfigError, match=r"trackio is not installed.*pip install 'r1rl\[tracking\]'"):
        start(tmp_path, "trackio")


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="an optional service")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted(tmp_path, "tensorboard")
    assert no_failures(tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, round(e.value, 4)) for e in events.Scalars("reward/mean")] == [(s, s / 10) for s in range(1, 7)]
    assert "samples/text_summary" in events.Tags()["tensors"]
    assert "config/text_summary" in events.Tags()["tensors"]


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="an optional service")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    interrupted(tmp_path, "wandb")
    assert no_failures(tmp_path)
    wanted = [(step, step / 10) for step in range(1, 7)]
    until(lambda: means(wandb_rows(tmp_path)[1]) == wanted, "wandb's service to write what it was given")
    ids, rows = wandb_rows(tmp_path)
    assert ids == {json.loads((tmp_path / "tracking.json").read_text())["run_id"]}
    assert any(row.get("samples", {}).get("nrows") == 2 or "samples/nrows" in row for row in rows)


def wandb_rows(folder: Path) -> tuple[set[str], list[dict[str, Any]]]:
    """Ids of the offline runs, and their history."""
    from wandb.proto import wandb_internal_pb2

    rows: list[dict[str, Any]] = []
    ids: set[str] = set()
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for data in log_records(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                ids.add(record.run.run_id)
                assert record.run.project == "proj"
                assert record.run.display_name == "run/zero"
            if record.WhichOneof("record_type") == "history":
                rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
    return ids, rows


def means(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(row["_step"], row["reward/mean"]) for row in rows if "reward/mean" in row]


def test_wandb_goes_online_only_with_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="an optional service")
    from r1rl.tracking.to_wandb import has_login

    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    assert not has_login()
    netrc.write_text("machine example.org login user password x\n")
    assert not has_login()
    netrc.write_text("machine api.wandb.ai login user password x\n")
    assert has_login()
    netrc.write_text("not a netrc")
    assert not has_login()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert has_login()


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trackio", reason="an optional service")
    import trackio.sqlite_storage as storage

    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    interrupted(tmp_path / "zero", "trackio")
    assert no_failures(tmp_path / "zero")
    (name,) = storage.SQLiteStorage.get_runs("proj")
    logs = storage.SQLiteStorage.get_logs("proj", name)
    logged = [(row["step"], row["reward/mean"]) for row in logs if "reward/mean" in row]
    assert logged == [(step, step / 10) for step in range(1, 7)]
    tables = [row["samples"]["_value"] for row in logs if "samples" in row]
    assert [len(table) for table in tables] == [2, 2, 2]
    assert tables[0][0] == {"prompt": "1+1", "completion": "<b>2</b>", "accuracy": None}
    assert tables[0][1] == {"prompt": "[user] 2+2", "completion": "5", "accuracy": 0.5}
    assert name.startswith("run/zero")
    assert capsys.readouterr().out == ""


def test_table_cells() -> None:
    columns, data = cells([{"a": True, "b": [1, 2]}, {"c": math.inf, "b": {"x": math.nan}}])
    assert columns == ["a", "b", "c"]
    assert data == [[1.0, "[1, 2]", None], [None, '{"x": null, "x/non_finite": 1}', math.inf]]


def test_a_start_without_a_checkpoint_reports_every_step_again(tmp_path: Path) -> None:
    """The services begin a new run then, which would lack what an earlier attempt had logged."""

    class Recorder(NullTracker):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            self.steps.append(step)

    for resume, expected in ((None, [1, 2, 3]), (None, [1, 2, 3, 4]), (2, []), (2, [4])):
        service = Recorder()
        tracker = CompositeTracker(FileTracker(tmp_path, resume), [service])
        for step in range((resume or 0) + 1, max(expected or [3]) + 1):
            tracker.log(step, {"reward/mean": 0.0})
        tracker.close()
        assert service.steps == expected
