"""One rank of a team: the same rows whole and in slices. Run by the tests under ``accelerate launch``.

``python slices.py MODEL SIZE OUT`` leaves ``OUT/RANK.json`` with the largest differences of each case.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from r1rl.config import ModelConfig
from r1rl.distributed.processes import start
from r1rl.grpo.learner import attention_heads
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy, load_policy, train_mode
from r1rl.model.ulysses import Team


def rows(lengths: list[int], seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 200, (n,), generator=generator).tolist() for n in lengths]


def cases() -> dict[str, tuple[list[list[int]], list[int]]]:
    """Rows that cross slices, whose sum no team divides; a prompt in common; a slice with nothing to predict."""
    apart, (prompt, *tails) = rows([5, 17, 9, 2, 30], 0), rows([21, 8, 13, 6], 1)
    return {
        "apart": (apart, [3, 4, 8, 1, 11]),
        "shared": ([prompt + tail for tail in tails], [len(prompt)] * 3),
        "prompt": ([rows([41], 2)[0]], [39]),
    }


def both(policy: Policy, team: Team, tokens: PackedTokens, autocast: torch.dtype | None) -> dict[str, float]:
    """How far apart log-probabilities, entropies and the gradients of a weighted sum are."""
    results = []
    for one in (None, team):
        forward = PolicyForward(policy.model, 0.8, 16, autocast, one)
        train_mode(forward)
        policy.model.zero_grad()
        logps_C, entropy_C = forward(tokens, entropy=True)
        (logps_C * torch.linspace(-1, 1, len(logps_C))).sum().backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in policy.model.parameters()]
        if one is not None:
            for grad in grads:  # each rank has its share
                dist.all_reduce(grad, group=team.group)
        results.append((logps_C.detach(), entropy_C, torch.cat([g.flatten() for g in grads])))
    (logps, entropy, grad), (logps_2, entropy_2, grad_2) = results
    return {
        "logps": float((logps - logps_2).abs().max()),
        "entropy": float((entropy - entropy_2).abs().max()),
        "gradient": float((grad - grad_2).abs().max() / grad.abs().max()),
    }


def main(folder: str, size: int, out: str) -> None:
    torch.set_num_threads(1)
    accelerator = start("cpu", 60.0)
    rank, ranks = accelerator.process_index, accelerator.num_processes
    found = {}
    for recompute in (False, True):
        policy = load_policy(ModelConfig(path=folder, gradient_checkpointing=recompute), accelerator.device)
        team = Team.form(size, rank, ranks, *attention_heads(policy))
        for name, (sequences, prompts) in cases().items():
            tokens = PackedTokens.build(sequences, prompts, accelerator.device)
            found[f"{name}, recomputed" if recompute else name] = both(policy, team, tokens, None)
            if not recompute:
                found[f"{name}, bfloat16"] = both(policy, team, tokens, torch.bfloat16)
    Path(out, f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
