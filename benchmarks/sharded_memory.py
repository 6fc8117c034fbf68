"""Measure each rank's peak memory while it loads a model and makes two updates under ZeRO-3, on the CPU over gloo.

``python -m benchmarks.sharded_memory`` writes a model with random weights in bfloat16, of the shape of Qwen2.5-0.5B
with one more layer (509 million parameters), and prints the table of docs/multi-gpu.md. Two ranks need about 12 GB.

Counted is private memory (RssAnon and RssShmem), read a hundred times per second from outside the process, less what
was resident after all imports. Memory-mapped files (RssFile) are shown beside it: their pages are the system's cache of
the checkpoint, exist once for all processes of a host, and are given back when memory is short. A page that a process
writes to becomes private and is counted. Freed blocks return to the system at once (MALLOC_MMAP_THRESHOLD_).
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from r1rl.tracking.console import Console

ROOT = Path(__file__).parents[1]
GB = 1e9
RANKS = 2
SHAPE = {
    "vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 25,
    "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
PROMPT, COMPLETION, SAMPLES = 8, 8, 4
UPDATES = ("first update", "second update")
PHASES = ("load", "shard", *UPDATES)
BYTES = 2 + 4 + 8 + 4
"""Per parameter: bfloat16 weights, float32 weights, two averages of AdamW, float32 gradients."""
LEAST_FREE = 2.5 * GB
"""The measurement ends where less memory than this is left on the machine."""


@dataclass(frozen=True, slots=True)
class Size:
    """Parameters of a model, and of its largest layer or embedding."""

    parameters: int
    largest: int

    @property
    def shard(self) -> float:
        """Bytes of one rank's part."""
        return BYTES * self.parameters / RANKS

    @property
    def bound(self) -> float:
        """Bytes that a rank may take: its shard and one layer, and 15 % for buffers and fragmentation."""
        return 1.15 * (self.shard + 2 * self.largest)


def size() -> Size:
    """From the shape alone, biases included."""
    width, inner, key = SHAPE["hidden_size"], SHAPE["intermediate_size"], 64 * SHAPE["num_key_value_heads"]
    layer = 2 * width * (width + key) + width + 2 * key + 3 * width * inner + 2 * width
    embedding = SHAPE["vocab_size"] * width
    return Size(SHAPE["num_hidden_layers"] * layer + embedding + width, max(layer, embedding))


def build(folder: Path) -> None:
    """Write the model, with a small tokenizer."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from r1rl.stages.pretrain import build_tokenizer, documents

    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 200)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = Qwen2Config(**SHAPE, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    Qwen2ForCausalLM(config).save_pretrained(folder)


def learn(folder: Path) -> None:
    """One rank's part: every phase of :data:`PHASES`, each announced in ``folder``."""
    import numpy as np
    import torch

    from r1rl.config import GRPOConfig, ModelConfig
    from r1rl.distributed.processes import start
    from r1rl.grpo.backend import places_weights
    from r1rl.grpo.batch import Batch, Sample
    from r1rl.grpo.learner import Learner
    from r1rl.model.load import load_policy

    torch.set_num_threads(1)
    accelerator = start("cpu", 900.0)
    import deepspeed.runtime.zero.stage3  # noqa: F401 - so that it does not count

    journal = (folder / f"rank-{accelerator.process_index}.jsonl").open("w")

    def enter(phase: str) -> None:
        accelerator.wait_for_everyone()
        journal.write(json.dumps([phase, os.getpid(), time.time()]) + "\n")
        journal.flush()
        time.sleep(0.2)  # the level before it is sampled too

    enter("imported")
    enter("load")
    cfg = ModelConfig(path=str(folder / "model"), dtype="bfloat16", gradient_checkpointing=True)
    policy = load_policy(cfg, accelerator.device, mapped=places_weights(accelerator))
    enter("shard")
    grpo = GRPOConfig(beta=0.0, tokens_per_microbatch=PROMPT + COMPLETION, logprob_chunk=16)
    learner = Learner(
        policy, grpo, accelerator, dtype="bfloat16", temperature=1.0, max_length=COMPLETION, total_updates=9, seed=0
    )
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 200, PROMPT + COMPLETION) for _ in range(SAMPLES)]
    logps = np.full(COMPLETION, -5.0, dtype=np.float32)
    batch = Batch([Sample(x[:PROMPT], x[PROMPT:], float(rng.normal()), logps) for x in ids])
    for phase in UPDATES:
        enter(phase)
        learner.update(batch)
    enter("end")


def measure(folder: Path) -> dict[str, dict[str, list[float]]]:
    """Peak bytes of every phase, ``private`` and ``mapped``, by rank.

    Raises:
        RuntimeError: a rank failed, or memory ran short.
    """
    file = ROOT / "launch" / "accelerate" / "zero3.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file)]
    command += ["--num_processes", str(RANKS), "--main_process_port", "0", __file__, "learn", str(folder)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    samples: dict[int, list[tuple[float, float, float]]] = defaultdict(list)
    with (folder / "output").open("w") as output:
        launched = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        while launched.poll() is None:
            for pid in {row[1] for rank in _journals(folder) for row in rank}:
                samples[pid].append((time.time(), *_resident(pid)))
            if _available() < LEAST_FREE:
                os.killpg(launched.pid, 15)
                raise RuntimeError("too little memory is left on this machine")
            time.sleep(0.01)
    if launched.returncode:
        said = (folder / "output").read_text()
        raise RuntimeError(said[said.find("Traceback") :][:3000])
    return _by_phase(_journals(folder), samples)


def _by_phase(
    journals: list[list[tuple[str, int, float]]], samples: dict[int, list[tuple[float, float, float]]]
) -> dict[str, dict[str, list[float]]]:
    peaks: dict[str, dict[str, list[float]]] = {phase: defaultdict(list) for phase in PHASES}
    for rank in journals:
        times = [(phase, at) for phase, _, at in rank]
        seen = samples[rank[0][1]]
        imported = max(private for at, private, _ in seen if at < times[1][1])
        for (phase, begin), (_, end) in itertools.pairwise(times[1:]):
            within = [(private - imported, mapped) for at, private, mapped in seen if begin <= at <= end]
            peaks[phase]["private"].append(max(private for private, _ in within))
            peaks[phase]["mapped"].append(max(mapped for _, mapped in within))
    return peaks


def _journals(folder: Path) -> list[list[tuple[str, int, float]]]:
    files = sorted(folder.glob("rank-*.jsonl"))
    return [[tuple(json.loads(line)) for line in file.read_text().splitlines()] for file in files]


def _resident(pid: int) -> tuple[float, float]:
    """Private and file-backed bytes; zeros for a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    found = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.startswith("Rss")}
    if not found:
        return 0.0, 0.0
    return 1024.0 * (int(found["RssAnon"]) + int(found["RssShmem"])), 1024.0 * int(found["RssFile"])


def _available() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith("MemAvailable")).split()[1])


def report(console: Console) -> None:
    """Build, measure and print."""
    sizes = size()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        subprocess.run([sys.executable, __file__, "build", str(folder / "model")], check=True, capture_output=True)
        peaks = measure(folder)
    rows = [
        [phase, *(f"{value / GB:.2f}" for value in peaks[phase]["private"]), f"{max(peaks[phase]['mapped']) / GB:.2f}"]
        for phase in PHASES
    ]
    console.table(f"peak GB per rank, {sizes.parameters / 1e6:.0f} M parameters", ["phase", "0", "1", "mapped"], rows)
    console.say(
        f"shard {sizes.shard / GB:.2f}, largest layer {2 * sizes.largest / GB:.2f}, bound {sizes.bound / GB:.2f}"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["build", folder]:
            build(Path(folder))
        case ["learn", folder]:
            learn(Path(folder))
        case _:
            report(Console())
