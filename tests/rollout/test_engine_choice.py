"""What ``rollout.engine: auto`` stands for."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

from r1rl.config import dump_config, load_config, stage_config
from r1rl.errors import ConfigError
from r1rl.fingerprint.keys import Effect, effect
from r1rl.rollout.build import choose, decided, samples_in_process

TINY = Path(__file__).parents[2] / "configs" / "tiny" / "zero.yaml"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """``installed(True)``: vLLM is, as far as anyone can see."""
    real = importlib.util.find_spec

    def set_to(there: bool) -> None:
        found = real("json") if there else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "vllm" else real(name))

    return set_to


@pytest.mark.parametrize(
    ("there", "on_gpu", "engine"), [(True, True, "vllm"), (True, False, "torch"), (False, True, "torch")]
)
def test_auto_is_vllm_where_it_is_installed_and_a_gpu_is_there(there, on_gpu, engine, installed):
    installed(there)
    assert choose("auto", on_gpu) == engine
    assert choose("torch", on_gpu) == "torch"
    assert choose("my.py:engine", on_gpu) == "my.py:engine"


def test_the_choice_is_made_once_said_and_recorded(installed, tmp_path, caplog):
    installed(True)
    run = load_config(TINY, ["stages.zero.rollout.engine=auto"])
    with caplog.at_level(logging.INFO):
        on_gpu = decided(run, on_gpu=True)
    assert "rollout.engine auto: vllm" in caplog.text
    assert "rollout.engine=torch" in caplog.text
    assert run.rollout.engine == "auto", "the configuration that was given is unchanged"
    dump_config(on_gpu, tmp_path / "config.yaml")
    installed(False)
    again = load_config(tmp_path / "config.yaml")
    assert again.rollout.engine == "vllm"
    for stage in again.stages:
        assert stage_config(again, stage).rollout.engine == "vllm"


def test_a_cpu_samples_with_the_embedded_engine_and_says_nothing(installed, caplog):
    installed(True)
    with caplog.at_level(logging.INFO):
        on_cpu = decided(load_config(TINY), on_gpu=False)
    assert on_cpu.rollout.engine == "torch"
    assert samples_in_process(on_cpu)
    assert not caplog.text


def test_a_stage_keeps_the_engine_that_it_names(installed):
    installed(True)
    run = decided(load_config(TINY, ["stages.zero.rollout.engine=torch"]), on_gpu=True)
    assert stage_config(run, "zero").rollout.engine == "torch"
    assert stage_config(run, "zero-eval").rollout.engine == "vllm"


def test_stale_samples_need_an_engine_of_their_own(installed):
    installed(False)
    stale = ["rollout.max_staleness=1", "rollout.vllm.mode=server"]
    with pytest.raises(ConfigError, match="engine torch samples with the learner's own weights"):
        load_config(TINY, stale)  # device: cpu
    run = load_config(TINY, [*stale, "device=auto"])  # valid: with vLLM on a GPU it would run
    with pytest.raises(ConfigError, match="engine torch samples with the learner's own weights"):
        stage_config(decided(run, on_gpu=False), "zero")


def test_another_engine_resumes_a_run():
    run = load_config(TINY)
    assert effect("grpo", "rollout.engine", stage_config(run, "zero")) is Effect.FREE
