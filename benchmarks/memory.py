"""Compare the estimate of `r1rl doctor` with the memory that a learner's process uses, on the CPU.

``python -m benchmarks.memory`` prints the table. It measures the peak of resident memory over two updates,
minus what was resident after all imports. Freed blocks are returned to the system at once (MALLOC_MMAP_THRESHOLD_), so
that resident memory follows the live tensors.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1rl.config import RunConfig, TinyModelConfig
from r1rl.doctor.memory import REDUCE_BUCKET, Shape, estimate
from r1rl.tracking.console import Console

if TYPE_CHECKING:
    from r1rl.model.load import Policy

MB = 1e6
SMALL = TinyModelConfig(hidden_size=512, layers=4, heads=8, kv_heads=4, intermediate_size=1536)
WIDE = TinyModelConfig(hidden_size=1024, layers=3, heads=8, kv_heads=2, intermediate_size=3072, tie_embeddings=False)
PROMPT, COMPLETION = 64, 192


@dataclass(frozen=True, slots=True)
class Case:
    """A model and the settings that affect its memory."""

    name: str
    model: TinyModelConfig
    grpo: dict[str, Any]
    policy: dict[str, Any]
    vocabulary: int = 2000
    ranks: int = 1
    stage: int = 0
    """ZeRO stage; 0 with more than one rank is DDP."""
    completion: int = COMPLETION
    """Tokens per completion; the learner's micro-batch holds at least one sample."""
    samples: bool = False
    """Whether the embedded engine samples after the updates."""

    def config(self, folder: str = "") -> RunConfig:
        """The run as its grpo stage sees it."""
        return RunConfig(
            model={"path": folder, **self.policy},
            data={"train": {"x": {"path": "generated:arithmetic"}}, "prompt": {"max_tokens": PROMPT}},
            rollout={"prompts_per_step": 8, "group_size": 8, "max_new_tokens": self.completion},
            grpo={"beta": 0.0, **self.grpo},
        )

    def shape(self) -> Shape:
        """Sizes of the model, as the doctor reads them."""
        m = self.model
        return Shape.of(
            m.hidden_size, m.layers, m.heads, m.kv_heads, m.hidden_size // m.heads, m.intermediate_size,
            self.vocabulary, m.tie_embeddings,
        )  # fmt: skip


LONG, SHORT = {"tokens_per_microbatch": 4096}, {"tokens_per_microbatch": 1024}
HALVES = {"tokens_per_microbatch": 8192, "sequence_parallel": 2}
CASES = (
    Case("small, 4096 tokens", SMALL, LONG, {}),
    Case("small, 1024 tokens, large vocabulary", SMALL, SHORT, {}, vocabulary=32000),
    Case("wide, 1024 tokens", WIDE, SHORT, {}),
    Case("wide, beta > 0", WIDE, SHORT | {"beta": 0.01}, {}),
    Case("wide, LoRA, beta > 0", WIDE, LONG | {"beta": 0.01}, {"lora": {"rank": 16}}),
    Case("small, recomputed activations", SMALL, {"tokens_per_microbatch": 8192}, {"gradient_checkpointing": True}),
    Case("wide, DDP × 2", WIDE, SHORT, {}, ranks=2),
    Case("small, DDP × 2, rows of 8192 tokens in halves", SMALL, HALVES, {}, ranks=2),
    Case("wide, ZeRO-2 × 2", WIDE, SHORT, {}, ranks=2, stage=2),
    Case("small, sampling 64 × 960 tokens", SMALL, SHORT, {}, completion=896, samples=True),
)


def measure(number: int) -> float:
    """Peak memory of case ``number`` in bytes, on the rank that uses most.

    Raises:
        RuntimeError: its process failed; the message is the end of its stderr.
    """
    case = CASES[number]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    command = [sys.executable]
    if case.ranks > 1:
        file = Path(__file__).parents[1] / "launch" / "accelerate" / ("zero2.yaml" if case.stage else "ddp.yaml")
        command += ["-m", "accelerate.commands.launch", "--config_file", str(file), "--num_processes", str(case.ranks)]
        command += ["--main_process_port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "build", str(number), folder], check=True, capture_output=True)
        command += [__file__, "learn", str(number), folder]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return max(float(json.loads(file.read_text())) for file in Path(folder).glob("peak-*.json"))


def estimated(case: Case) -> float:
    """Bytes that the doctor estimates, without the libraries."""
    shape = case.shape()
    parts = estimate(case.config(), shape, case.ranks, case.stage, min(REDUCE_BUCKET, shape.parameters))
    return sum(part.bytes for part in parts)


def build(case: Case, folder: Path) -> None:
    """Write an untrained model of the case's sizes."""
    from r1rl.model.load import Policy
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    model = build_model(case.model, tokenizer)
    model.resize_token_embeddings(case.vocabulary)
    Policy(model, tokenizer).save(folder)


def learn(case: Case, folder: Path) -> None:
    """Run two updates of two full micro-batches per rank, then a rollout if the case samples; write the peak."""
    import numpy as np
    import torch

    from r1rl.distributed.processes import start
    from r1rl.grpo.batch import Batch, Sample
    from r1rl.grpo.learner import Learner
    from r1rl.model.load import load_policy

    torch.set_num_threads(1)
    accelerator = start("cpu", 300.0)
    _warm_up()
    before = _resident("VmRSS")
    config = case.config(str(folder))
    policy = load_policy(config.model, accelerator.device)
    learner = Learner(
        policy, config.grpo, accelerator, dtype=config.model.dtype,
        temperature=1.0, max_length=case.completion, total_updates=9, seed=0,
    )  # fmt: skip
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak: loading the model is not measured
    rng = np.random.default_rng(0)
    length = PROMPT + case.completion
    count = 2 * case.ranks * max(config.grpo.tokens_per_microbatch // length, 1)
    for _ in range(2):
        drawn = [rng.integers(1, 200, length) for _ in range(count)]
        logps = np.full(case.completion, -5.0, dtype=np.float32)
        samples = [Sample(ids[:PROMPT], ids[PROMPT:], float(rng.normal()), logps) for ids in drawn]
        learner.update(Batch(samples))
    if case.samples:
        _sample(policy, config)
    peak = _resident("VmHWM") - before
    (folder / f"peak-{accelerator.process_index}.json").write_text(json.dumps(peak))


def _sample(policy: Policy, config: RunConfig) -> None:
    """Run one rollout in which every completion reaches the length limit."""
    import numpy as np

    from r1rl.rollout.engine import Request, complete
    from r1rl.rollout.torch_engine import TorchEngine
    from r1rl.types import Problem, SamplingParams

    prompts = np.random.default_rng(1).integers(1, 200, (config.rollout.prompts_per_step, PROMPT))
    size = config.rollout.group_size
    requests = [
        Request(Problem(str(i), tuple(prompt.tolist()), ""), tuple(range(i * size, (i + 1) * size)))
        for i, prompt in enumerate(prompts)
    ]
    assert policy.model.generation_config is not None
    policy.model.generation_config.eos_token_id = None
    policy.tokenizer.eos_token = None
    engine = TorchEngine(policy, config.rollout.max_concurrent)
    complete(engine, requests, SamplingParams(config.rollout.max_new_tokens))


def _warm_up() -> None:
    """Trigger what torch allocates only once: threads, oneDNN's kernels, autograd."""
    import torch

    x = torch.ones(64, 64, requires_grad=True)
    (x @ x).sum().backward()


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith(name)).split()[1])


def report(console: Console, numbers: list[int] | None = None) -> None:
    """Measure and print all cases, or those with these numbers."""
    rows = []
    for number in numbers or range(len(CASES)):
        case = CASES[number]
        if case.stage and importlib.util.find_spec("deepspeed") is None:
            console.say(f"skipped, deepspeed is not installed: {case.name}")
            continue
        ours, theirs = estimated(case), measure(number)
        rows.append([case.name, case.shape().parameters / MB, ours / MB, theirs / MB, f"{ours / theirs - 1:+.1%}"])
    console.table("memory per rank", ["case", "M parameters", "estimate MB", "measured MB", "difference"], rows)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", number, folder]:
            build(CASES[int(number)], Path(folder))
        case ["learn", number, folder]:
            learn(CASES[int(number)], Path(folder))
        case chosen:
            report(Console(), [int(number) for number in chosen])
