"""A precision that the machine only emulates is named before the run starts."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from r1rl.config import RunConfig
from r1rl.distributed.processor import has_bfloat16
from r1rl.recipe import preflight as module
from r1rl.recipe.graph import graph
from r1rl.recipe.preflight import preflight

ZEN3 = "processor\t: 0\nflags\t\t: fpu sse2 fma avx2 sha_ni\n\nprocessor\t: 1\nflags\t\t: fpu sse2 fma avx2 sha_ni\n"
SAPPHIRE = "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile\n"
NEOVERSE = "processor\t: 0\nFeatures\t: fp asimd sve bf16 i8mm\n"


@pytest.mark.parametrize(("text", "has"), [(ZEN3, False), (SAPPHIRE, True), (NEOVERSE, True), ("", None)])
def test_instructions_are_those_that_linux_lists(tmp_path: Path, text: str, has: bool | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_bfloat16(tmp_path / "cpuinfo") is has
    assert has_bfloat16(tmp_path / "absent") is None


def warned(caplog: pytest.LogCaptureFixture, dtype: str, device: str = "cpu") -> list[str]:
    stages = {
        "base": {"kind": "pretrain"},
        "sft": {"kind": "sft", "model": "base"},
        "out": {"kind": "export", "model": "sft"},
    }
    source = {"path": "generated:arithmetic", "args": {"split": "train", "size": 4, "seed": 0}}
    config = RunConfig.model_validate(
        {"device": device, "model": {"dtype": dtype}, "stages": stages, "data": {"train": {"x": source}}}
    )
    with caplog.at_level(logging.WARNING):
        preflight(list(graph(config).values()))
    return [record.message for record in caplog.records if "bfloat16" in record.message]


def test_emulated_bfloat16_is_said_before_the_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda: False)
    [said] = warned(caplog, "bfloat16")
    assert "will be slow in sft:" in said, "the stages that compute with it"
    assert "model.dtype: float32" in said


@pytest.mark.parametrize(("dtype", "has"), [("float32", False), ("bfloat16", True), ("bfloat16", None)])
def test_nothing_is_said_where_it_is_not_emulated(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, dtype: str, has: bool | None
) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda: has)
    assert warned(caplog, dtype) == []


def test_nothing_is_said_on_a_gpu(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert warned(caplog, "bfloat16", "auto") == []
