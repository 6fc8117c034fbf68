"""Compare r1rl with TRL's GRPOTrainer on this machine, and the learner with the time its arithmetic takes.

``python -m benchmarks.compare`` runs both sides of both scenarios in turn, each in its own process so that peak memory
is measured separately, and prints the medians. Both use the same model, prompts, group size, length limit, reward,
precision (float32) and number of threads, and both train on every completion.

Lengths are controlled: a bias in the output head gives the end of sequence a constant probability per token.
In ``long-tail`` the mean is about a third of the limit, in ``uniform`` every completion reaches the limit.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROMPTS, GROUP = 8, 16
WARMUP, STEPS = 2, 5


@dataclass(frozen=True)
class Scenario:
    max_new_tokens: int
    mean: float
    """Mean of the untruncated geometric distribution of lengths; infinite if no completion ends before the limit."""


SCENARIOS = {"long-tail": Scenario(384, 136.0), "uniform": Scenario(128, math.inf)}


@dataclass(frozen=True)
class Result:
    """Medians over the measured steps of one side; seconds are per step, memory in GB (2^30 bytes)."""

    seconds: float
    completions_per_s: float
    length_mean: float
    peak_gb: float
    parts: dict[str, float]


def build_model(folder: Path) -> None:
    """A fresh Qwen2 model of 3.3 M parameters with its tokenizer, in Hugging Face format."""
    import torch

    from r1rl.config import TinyModelConfig
    from r1rl.model.load import Policy
    from r1rl.stages.pretrain import build_model, build_tokenizer, documents

    torch.manual_seed(0)
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 500)
    shape = TinyModelConfig(hidden_size=192, layers=6, heads=6, kv_heads=2, intermediate_size=768)
    Policy(build_model(shape, tokenizer), tokenizer).save(folder)


def give_lengths(model: Any, eos: int, scenario: Scenario) -> None:
    """Bias the head so that a completion ends with probability 1/mean per token; untrained, it is nearly uniform."""
    import torch

    head = model.get_output_embeddings()
    vocabulary = head.weight.shape[0]
    chance = 1 / scenario.mean
    bias = torch.zeros(vocabulary)
    bias[eos] = math.log(chance * (vocabulary - 1) / (1 - chance)) if chance > 0 else -1e4
    with torch.no_grad():
        head.weight.mul_(0.1)  # so that the bias decides, whether weights are tied or not
    head.bias = torch.nn.Parameter(bias, requires_grad=False)


def reward(completions: list[str], **_: Any) -> list[float]:
    """Fraction of even bytes: it differs between completions, so that every one has a nonzero advantage."""
    return [sum(b % 2 == 0 for b in c.encode()) / (len(c.encode()) + 1) for c in completions]


def run_r1rl(folder: Path, scenario: Scenario, batch: int) -> Result:
    del batch  # micro-batches are counted in tokens
    from r1rl import GRPOTrainer, RunConfig

    out = folder / "r1rl"
    config = RunConfig(
        device="cpu",
        model={"path": str(folder / "model")},
        data={
            "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 256}}},
            "prompt": {"system": ""},
        },
        rewards={"even": {"function": f"{Path(__file__).resolve()}:reward"}},
        rollout={
            "prompts_per_step": PROMPTS,
            "group_size": GROUP,
            "max_new_tokens": scenario.max_new_tokens,
            "max_concurrent": PROMPTS * GROUP,
        },
        grpo={
            "algorithm": "dapo",
            "dynamic_sampling": False,
            "steps": WARMUP + STEPS,
            "learning_rate": 1e-7,
            "tokens_per_microbatch": 2048,
            "checkpoint_every": 0,
            "entropy_every": 1,
        },
        tracking={"console": False},
    )
    trainer = GRPOTrainer(config, out)
    give_lengths(trainer.policy.model, trainer.policy.eos_ids[0], scenario)
    trainer._save = lambda *_: None  # type: ignore[method-assign]  # TRL writes no checkpoint either
    trainer.train()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()][WARMUP:]

    def median(name: str) -> float:
        return statistics.median(row[name] for row in rows)

    assert all(row["policy/forwarded_fraction"] == 1.0 for row in rows), "every completion must be trained on"
    parts = {"rollout and rewards": median("time/rollout"), "update": median("time/update")}
    return _result([row["time/step"] for row in rows], median("rollout/length_mean"), parts)


def run_trl(folder: Path, scenario: Scenario, batch: int) -> Result:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from r1rl.data.toy.arithmetic import PROMPT, problems

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    give_lengths(model, tokenizer.eos_token_id, scenario)
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=PROMPTS * GROUP // batch,
        num_generations=GROUP,
        max_completion_length=scenario.max_new_tokens,
        beta=0.0,
        learning_rate=1e-7,
        max_steps=WARMUP + STEPS,
        save_strategy="no",
        logging_steps=1,
        loss_type="dapo",
        gradient_checkpointing=False,
    )
    lengths: list[float] = []
    stamps: list[float] = []

    def scored(completions: list[str], completion_ids: list[list[int]], **extra: Any) -> list[float]:
        lengths.append(statistics.mean(map(len, completion_ids)))
        return reward(completions)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            stamps.append(time.perf_counter())

    prompts = [PROMPT.format(question=row["question"]) for row in problems("train", 256)]
    trainer = GRPOTrainer(
        model,
        reward_funcs=scored,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        callbacks=[Clock()],
    )
    trainer.train()
    seconds = [end - begin for begin, end in zip(stamps[::2], stamps[1::2], strict=True)][WARMUP:]
    return _result(seconds, statistics.median(lengths[WARMUP:]), {})


TRL_BATCH = 32
"""TRL's per-device batch size, accumulated to the same 128. ``--trl-batches 16 32 64 128`` measures others."""


def _result(seconds: list[float], length: float, parts: dict[str, float]) -> Result:
    median = statistics.median(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Result(median, PROMPTS * GROUP / median, length, peak, parts)


SIDES: dict[str, Callable[[Path, Scenario, int], Result]] = {"r1rl": run_r1rl, "trl": run_trl}


def measure(side: str, scenario: str, folder: Path, batch: int = TRL_BATCH) -> Result:
    """Run one side in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.compare", "--side", side, "--scenario", scenario]
    command += ["--folder", str(folder), "--batch", str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    if done.returncode:
        raise SystemExit(f"{side} failed on {scenario}:\n{done.stderr[-3000:]}")
    return Result(**json.loads(done.stdout.strip().splitlines()[-1]))


def trl_batches(sizes: Sequence[int]) -> None:
    """Print TRL's time per step for each per-device batch size."""
    for name in SCENARIOS:
        with tempfile.TemporaryDirectory() as scratch:
            build_model(Path(scratch) / "model")
            for size in sizes:
                result = measure("trl", name, Path(scratch), size)
                print(f"{name}, TRL with batch size {size}: {result.seconds:.2f} s/step, {result.peak_gb:.2f} GB")


def compare() -> None:
    """Print both sides of both scenarios, and the learner alone."""
    from benchmarks.learner import report as learner_report
    from r1rl.tracking.console import Console

    console, rows = Console(), []
    for name in SCENARIOS:
        with tempfile.TemporaryDirectory() as scratch:
            build_model(Path(scratch) / "model")
            results = {side: measure(side, name, Path(scratch)) for side in SIDES}
        for side, r in results.items():
            rows.append([name, side, r.length_mean, r.seconds, r.completions_per_s, r.peak_gb])
        ratio = results["r1rl"].completions_per_s / results["trl"].completions_per_s
        memory = results["r1rl"].peak_gb / results["trl"].peak_gb
        rows.append([name, "r1rl / trl", None, None, ratio, memory])
        console.say(f"{name}: r1rl spends {results['r1rl'].parts}")
    console.table(
        f"{PROMPTS * GROUP} completions per step, float32, medians of {STEPS} steps after {WARMUP}",
        ["lengths", "side", "mean tokens", "s/step", "completions/s", "peak GB"],
        rows,
    )
    learner_report(console)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", choices=SIDES)
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--batch", type=int, default=TRL_BATCH)
    parser.add_argument("--trl-batches", type=int, nargs="+", help="measure only TRL, at these batch sizes")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(asdict(SIDES[args.side](args.folder, SCENARIOS[args.scenario], args.batch))))
    elif args.trl_batches:
        trl_batches(args.trl_batches)
    else:
        compare()


if __name__ == "__main__":
    main()
