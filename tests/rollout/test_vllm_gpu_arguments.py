"""vLLM's GPU wheel takes every argument and flag that is built for it, for every preset and mode."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from r1rl.config import RunConfig, load_config
from r1rl.config.model import TinyModelConfig
from r1rl.model.load import Policy
from r1rl.recipe.graph import graph
from r1rl.rollout.vllm.arguments import BACKENDS, engine_arguments, transfer
from r1rl.rollout.vllm.process import command_line
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from tests.support.vllm_gpu import needs_wheel, pretend_cuda
from tests.support.waits import HANG_S

pytestmark = [needs_wheel, pytest.mark.timeout(3 * HANG_S)]

ROOT = Path(__file__).parents[2]
PRESETS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("*/*.yaml"))
GPU = torch.device("cuda", 3)


@pytest.fixture(scope="module", autouse=True)
def host() -> None:
    pretend_cuda()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In place of the presets' models, which would have to be downloaded; its heads divide among eight GPUs."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 300)
    shape = TinyModelConfig(hidden_size=128, layers=2, heads=8, kv_heads=8, intermediate_size=256)
    Policy(build_model(shape, tokenizer), tokenizer).save(folder)
    return str(folder)


def views(preset: str, model: str, mode: str) -> list[RunConfig]:
    """The preset's stages that sample, in this mode."""
    nodes = graph(load_config(ROOT / preset))
    found = [node.view for node in nodes.values() if "rollout" in node.row.uses]
    for view in found:
        view.model.path, view.model.revision = model, None
        view.rollout.engine, view.rollout.vllm.mode = "vllm", mode  # type: ignore[assignment]
        view.rollout.vllm.transfer = "auto"
        if mode == "colocate":
            view.rollout.vllm.tensor_parallel_size = 1
    assert found or "distill" in preset
    return found


def policy() -> Any:
    return SimpleNamespace(model=SimpleNamespace(device=GPU, config=SimpleNamespace(max_position_embeddings=512)))


def made(arguments: Any) -> Any:
    """vLLM's own configuration, with everything it checks."""
    from vllm.usage.usage_lib import UsageContext

    return arguments.create_engine_config(UsageContext.LLM_CLASS)


def check(config: Any, view: RunConfig, kind: str) -> None:
    assert config.weight_transfer_config.backend == BACKENDS[kind]
    assert config.model_config.logprobs_mode == "processed_logprobs"
    assert str(config.model_config.dtype) == f"torch.{view.model.dtype}"
    if view.model.cast_lm_head_to_fp32:
        assert config.model_config.head_dtype == torch.float32
    assert config.cache_config.gpu_memory_utilization == view.rollout.vllm.gpu_share
    assert config.scheduler_config.max_num_seqs >= view.rollout.max_concurrent


@pytest.mark.parametrize("preset", PRESETS)
def test_a_colocated_engine_of_every_preset(preset: str, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.engine.arg_utils import EngineArgs

    for view in views(preset, model, "colocate"):
        kind = transfer(view, GPU)
        arguments = engine_arguments(view, policy(), kind)
        config = made(EngineArgs(**arguments))
        check(config, view, kind)
        assert config.model_config.enable_sleep_mode == view.rollout.vllm.enable_sleep_mode
        assert config.parallel_config.distributed_executor_backend == "uni"
        assert config.parallel_config.assigned_physical_gpu_ids == [3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,6,5,4")
    for view in views(preset, model, "colocate")[:1]:
        config = made(EngineArgs(**engine_arguments(view, policy(), "direct")))
        assert config.parallel_config.assigned_physical_gpu_ids == [4], "the fourth of the visible ones"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_server_of_every_preset(preset: str, model: str) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    for view in views(preset, model, "server"):
        kind = transfer(view, GPU)
        arguments = engine_arguments(view, policy(), kind)
        parsed = parse([*command_line(arguments), "--host", "127.0.0.1", "--port", "8000"])
        assert parsed.enable_scale_out
        engine = AsyncEngineArgs.from_cli_args(parsed)
        config = made(engine)
        check(config, view, kind)
        assert config.parallel_config.tensor_parallel_size == view.rollout.vllm.tensor_parallel_size
        assert engine.device_ids is None, "CUDA_VISIBLE_DEVICES names a server's devices"


def test_a_server_that_is_started_by_hand(model: str, tmp_path: Path) -> None:
    """What launch/vllm/serve.sh hands to vLLM's server."""
    stand_in = tmp_path / "python"
    stand_in.write_text(f'#!{sys.executable}\nimport sys\nprint("\\n".join(sys.argv[3:]))\n')
    stand_in.chmod(0o700)
    environment = {"PYTHON": str(stand_in), "PATH": "/usr/bin:/bin"}
    printed = subprocess.run(
        ["sh", str(ROOT / "launch/vllm/serve.sh"), model, "bfloat16", "--tensor-parallel-size", "2"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    parsed = parse(printed.splitlines())
    assert parsed.enable_scale_out
    assert parsed.logprobs_mode == "processed_logprobs"
    assert parsed.tensor_parallel_size == 2
    assert parsed.weight_transfer_config.backend == "nccl"


def parse(flags: list[str]) -> Any:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser()).parse_args(flags)
