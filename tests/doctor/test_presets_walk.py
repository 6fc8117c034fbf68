"""Every configuration for GPUs, from the command line to its first update, at its real shape: with fake tensors, which
have sizes and no values, one rank at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

from r1rl.cli import app
from r1rl.config import RunConfig, dump_config, load_config
from r1rl.config.derived import derive
from r1rl.doctor.commands import _shape
from r1rl.doctor.memory import estimate
from r1rl.doctor.plan import Hardware, micro_batches, plan, with_engine
from r1rl.grpo import learner as learning
from r1rl.grpo.backend import AccelerateBackend
from r1rl.grpo.batch import MicroBatch, Sample, micro_batch
from r1rl.grpo.learner import Learner
from r1rl.model.attention import NAME, register
from r1rl.model.forward import PackedTokens
from r1rl.model.load import Policy
from r1rl.recipe.graph import graph
from r1rl.recipe.layout import layout
from tests.doctor.test_headers import CONFIGS, qwen

PRESETS = [config for config in CONFIGS if "Qwen" in str(load_config(config).model.path)]


def named(config: Path) -> str:
    return f"{config.parent.name}/{config.name}"


class Sizes(TorchDispatchMode):
    """Answers what code asks of values (every number is 1, every condition holds) and adds up live storages."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype == torch.bool else 1.0 if args[0].is_floating_point() else 1
        if func is torch.ops.aten.equal.default:
            return True
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self.live and not self.live[storage._cdata][0].expired():
            return
        self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        if sum(size for _, size in self.live.values()) > self.peak:
            self.live = {key: each for key, each in self.live.items() if not each[0].expired()}
            self.peak = max(self.peak, sum(size for _, size in self.live.values()))


class OneOfMany:
    """The accelerator of one of several ranks."""

    def __init__(self, accelerator: Accelerator, rank: int, ranks: int) -> None:
        self._alone, self.process_index, self.num_processes = accelerator, rank, ranks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._alone, name)


class Alone(AccelerateBackend):
    """The collectives of a rank whose peers do as it does."""

    def sum(self, value: Tensor) -> Tensor:
        return value.detach() * self.ranks

    def gather(self, items: list[Any]) -> list[Any]:
        return items * self.ranks


def as_launched(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """What a launched process reads: the command line's configuration, written by the run and read again."""
    ran: list[RunConfig] = []
    monkeypatch.setattr("r1rl.recipe.run.run_recipe", lambda given, **_: ran.append(given))
    ended = CliRunner().invoke(app, ["run", str(config), "--launch", "zero2"], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    dump_config(with_engine(ran[0]), tmp_path / "config.yaml")
    return load_config(tmp_path / "config.yaml")


def at_limits(view: RunConfig, count: int) -> list[Sample]:
    """Samples that are as long as allowed."""
    length = view.rollout.max_new_tokens
    prompt, zeros = derive(view).max_sequence_tokens - length, np.zeros(length, np.float32)
    return [
        Sample(np.full(prompt, i // view.rollout.group_size), np.full(length, i), (-1.0) ** i, zeros, old_logps=zeros)
        for i in range(count)
    ]


def fake(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype)
    if isinstance(value, PackedTokens | MicroBatch):
        parts = {each.name: fake(getattr(value, each.name)) for each in dataclasses.fields(value)}
        return dataclasses.replace(value, **parts)
    return value


def fake_micro_batch(samples: list[Sample], device: torch.device) -> MicroBatch:
    """The real one's shapes: it counts tokens, which fake tensors cannot."""
    with _disable_current_modes():
        chunk = micro_batch(samples, torch.device("cpu"))
    made: MicroBatch = fake(chunk)
    return made


@pytest.fixture
def whole_parameters() -> Iterator[None]:
    """Conversions replace parameters, as a fake tensor cannot become the data of a real one."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def first_update(
    view: RunConfig,
    rank: int,
    ranks: int,
    layers: int | None,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    updates: int = 1,
) -> tuple[dict[str, float], int]:
    """The last metrics of updates on ``count`` samples at their limits on one rank, and the peak of memory in bytes."""
    shape = qwen(view.model.path)
    shape.num_hidden_layers = layers or shape.num_hidden_layers
    register()
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(shape, attn_implementation=NAME, dtype=torch.float32)
    monkeypatch.setattr(learning, "micro_batch", fake_micro_batch)
    monkeypatch.setattr(learning, "build_backend", Alone)
    accelerator: Any = OneOfMany(Accelerator(cpu=True, device_placement=False), rank, ranks)
    sizes = Sizes()
    with FakeTensorMode(allow_non_fake_inputs=True), sizes:
        model.to_empty(device="cpu")
        model.tie_weights()
        if view.model.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        learner = Learner(
            Policy(model, None),  # type: ignore[arg-type]
            view.grpo,
            accelerator,
            dtype=view.model.dtype,
            fp32_head=view.model.cast_lm_head_to_fp32,
            temperature=view.rollout.temperature,
            max_length=view.rollout.max_new_tokens,
            total_updates=derive(view).total_updates,
            seed=view.seed,
        )
        samples = at_limits(view, count)
        for _ in range(updates):
            metrics = learner._step(samples)
    return metrics, sizes.peak


def shapes(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", qwen)
    return {name: _shape(node.view, run) for name, node in graph(run).items() if node.kind == "grpo"}


@pytest.mark.parametrize("config", PRESETS, ids=named)
def test_every_stage_is_placed_or_refused_with_a_reason(config, tmp_path, monkeypatch):
    """On 1, 8 and 64 GPUs; what a launched process reads is laid out as what the command line gave."""
    run = as_launched(config, tmp_path, monkeypatch)
    for gpus in (1, 8, 64):
        hardware = Hardware(gpus, 80.0)
        for each in plan(run, shapes(run, monkeypatch), hardware, None):
            assert each.at is not None or "does not divide into 64 processes" in each.problem
            if each.at is not None:
                assert each.at == layout(each.node, hardware.on_each, hardware.machines)
                assert each.at.ranks in (1, gpus)
                assert each.at.ranks == 1 or each.at.processes == hardware.on_each


@pytest.mark.parametrize("ranks", [8, 64])
@pytest.mark.parametrize("config", [PRESETS[1], *(pytest.param(p, marks=pytest.mark.slow) for p in PRESETS)], ids=str)
def test_the_first_update_of_a_rank_takes_the_planned_micro_batches(
    config, ranks, tmp_path, monkeypatch, whole_parameters
):
    """The last rank's control flow, with one of the model's layers: every rank takes as many passes."""
    nodes = graph(as_launched(config, tmp_path, monkeypatch))
    view = next(node.view for node in nodes.values() if node.kind == "grpo")
    view.model.lora = None  # peft knows nothing of fake tensors; adapters change no micro-batch
    count = derive(view).completions_per_update
    if micro_batches(view, ranks) > 4:
        pytest.skip("the same passes again and again")
    metrics, _ = first_update(view, ranks - 1, ranks, 1, count, monkeypatch)
    assert metrics["policy/micro_batches"] == micro_batches(view, ranks)
    assert metrics["policy/tokens"] == count * derive(view).max_sequence_tokens
    assert metrics["policy/imbalance"] == 1.0


@pytest.mark.parametrize("layers", [2, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("config", PRESETS, ids=named)
def test_the_doctors_memory_is_that_of_the_first_updates(config, layers, tmp_path, monkeypatch, whole_parameters):
    """Two micro-batches on one process, where nothing is sharded; AdamW's averages are there from the second update."""
    if layers and config != PRESETS[1]:
        pytest.skip("with all layers, as a slow test")
    run = as_launched(config, tmp_path, monkeypatch)
    node = next(node for node in graph(run).values() if node.kind == "grpo")
    view, shape = node.view, shapes(run, monkeypatch)[node.name]
    view.model.lora = None
    fitting = max(1, view.grpo.tokens_per_microbatch // derive(view).max_sequence_tokens)
    metrics, peak = first_update(view, 0, 1, layers, 2 * fitting, monkeypatch, updates=2)
    assert metrics["policy/micro_batches"] == 2
    if layers:
        tied = qwen(view.model.path).tie_word_embeddings
        block = (shape.parameters - shape.hidden * shape.vocabulary * (1 if tied else 2)) // shape.layers
        shape = dataclasses.replace(shape, layers=layers, parameters=shape.parameters - block * (shape.layers - layers))
    parts = {part.name: part.bytes for part in estimate(view, shape, 1, 0)}
    assert peak == pytest.approx(sum(parts.values()), rel=0.1), parts
