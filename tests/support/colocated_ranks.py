"""One colocated vLLM per rank, trained and sampled from; run under ``accelerate launch``.

``python colocated_ranks.py MODEL`` prints per rank and version how far the log-probabilities that vLLM sampled with are
from the learner's, and what the rank sampled.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from r1rl.config import RunConfig
from r1rl.distributed.processes import start
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import load_policy
from r1rl.rollout.engine import Request, complete, rest
from r1rl.rollout.vllm.build import build
from r1rl.types import Problem, SamplingParams


def main() -> None:
    torch.set_num_threads(1)
    accelerator = start("cpu", 300.0)
    cfg = RunConfig.model_validate(
        {
            "model": {"path": sys.argv[1]},
            "rollout": {"engine": "vllm", "max_new_tokens": 12, "vllm": {"kv_cache_gb": 1}},
        }
    )
    policy = load_policy(cfg.model, accelerator.device)
    engine = build(cfg, policy)
    rank = accelerator.process_index
    for version in (1, 2):
        with torch.no_grad():
            torch.manual_seed(version)
            for parameter in policy.model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.02)
        engine.sync(version)
        # Ranks ask for different numbers of groups: each engine works by itself.
        requests = [Request(Problem("", (5, 6 + rank, 7 + i), ""), (rank, rank + 9)) for i in range(1 + 2 * rank)]
        groups = complete(engine, requests, SamplingParams(12))
        rest(engine)
        prompts = [list(r.problem.prompt_ids) for r in requests for _ in r.seeds]
        completions = [c for group in groups for c in group]
        rows = [p + c.token_ids.tolist() for p, c in zip(prompts, completions, strict=True)]
        with torch.no_grad():
            forward = PolicyForward(policy.model, 1.0, 4096, None)
            logps, _ = forward(PackedTokens.build(rows, [len(p) for p in prompts], accelerator.device))
        gap = np.abs(logps.numpy() - np.concatenate([c.logps for c in completions])).max()
        versions = {c.version for c in completions}
        print(f"rank {rank} version {version}: {len(completions)} completions of {versions}, {gap:.0e} nats off")
        accelerator.wait_for_everyone()
    engine.close()


if __name__ == "__main__":
    main()
