"""Run folders for the report, written by the same trackers as real runs."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from r1rl.config import dump_config, load_config
from r1rl.tracking.base import FileTracker

CONFIG = """\
name: NAME
seed: SEED
stages:
  base: { kind: pretrain }
  base-eval: { kind: evaluate, model: base }
  zero: { kind: grpo, model: base }
  zero-eval: { kind: evaluate, model: zero }
data:
  train:
    sums: { path: generated:arithmetic }
  eval:
    held_out: { path: generated:arithmetic }
rewards: { accuracy: 1.0, format: 1.0 }
grpo: { steps: STEPS, learning_rate: 5e-4, beta: BETA }
pretrain: { tokens: 204800, batch_tokens: 1024 }
"""

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">\x1b[31m\u202egnp.exe'


def question(index: int) -> tuple[str, int]:
    rng = random.Random(index)
    terms = [rng.randint(1, 9) for _ in range(rng.randint(3, 6))]
    return f"What is {'+'.join(map(str, terms))}?", sum(terms)


def completion(index: int, skill: float, rng: random.Random) -> tuple[str, float, float]:
    """A completion with its accuracy and format."""
    asked, gold = question(index)
    terms = [int(t) for t in asked.removeprefix("What is ").removesuffix("?").split("+")]
    if rng.random() > skill:
        wrong = gold + rng.choice([-3, -2, 2, 5])
        return rng.choice(
            [(f" It is {wrong}.", 0.0, 0.0), (f" <think>That looks easy.</think>\n<answer>{wrong}</answer>", 0.0, 1.0)]
        )
    total, lines = terms[0], []
    for term in terms[1:]:
        lines.append(f"{total}+{term}={total + term}")
        total += term
    return f" <think>{chr(10).join(lines)}</think>\n<answer>{total}</answer>", 1.0, 1.0


def metrics_at(step: int, steps: int, rng: random.Random) -> dict[str, float]:
    done = 1 / (1 + math.exp(-10 * (step / steps - 0.35)))
    accuracy = min(1, max(0, 0.08 + 0.87 * done + rng.gauss(0, 0.03)))
    tags = min(1, max(0, 0.45 + 0.54 * min(1, 2.2 * done) + rng.gauss(0, 0.02)))
    rollout, update = 1.9 + rng.gauss(0, 0.1), 0.9 + rng.gauss(0, 0.05)
    return {
        "reward/mean": accuracy + tags,
        "reward/std": 0.8 * (1 - done) + 0.12,
        "rollout/length_mean": 18 + 22 * done + rng.gauss(0, 1),
        "rollout/length_max": 96 - 30 * done + rng.gauss(0, 3),
        "rollout/truncated": max(0, 0.06 * (1 - done) + rng.gauss(0, 0.004)),
        "rollout/zero_variance_groups": min(1, max(0, 0.05 + 0.6 * done + rng.gauss(0, 0.05))),
        "rollout/completions": 256.0,
        "rollout/tokens": 256.0 * (18 + 22 * done),
        "reward/accuracy/mean": accuracy,
        "reward/format/mean": tags,
        "reward/accuracy/std": math.sqrt(accuracy * (1 - accuracy)),
        "reward/accuracy/none": 0.0,
        "reward/accuracy/timeouts": 0.0,
        "reward/accuracy/errors": 0.0,
        "reward/accuracy/p50_ms": 0.4,
        "reward/accuracy/p99_ms": 2.1 + rng.random(),
        "reward/unscored": 0.0,
        "verify/correct": 256 * accuracy,
        "verify/wrong": 256 * (1 - accuracy),
        "policy/loss": rng.gauss(0, 0.01),
        "policy/grad_norm": 0.4 + abs(rng.gauss(0, 0.1)),
        "policy/lr": 5e-4,
        "policy/entropy": 1.1 * (1 - done) + 0.15 + rng.gauss(0, 0.02),
        "policy/clip_fraction": 0.0,
        "policy/approx_kl": 0.0,
        "policy/ratio_deviation": 0.0,
        "policy/engine_mismatch": 2e-7 + abs(rng.gauss(0, 1e-8)),
        "policy/forwarded_fraction": 1 - 0.6 * done,
        "policy/micro_batches": 4.0,
        "policy/updates_skipped": 0.0,
        "policy/version": float(step),
        "policy/guards_crossed": 0.0,
        "time/rollout": rollout,
        "time/update": update,
        "time/sync": 0.02,
        "time/step": rollout + update + 0.1,
        "rollout/completions_per_s": 256 / (rollout + update + 0.1),
    }


def sample(index: int, skill: float, rng: random.Random) -> dict[str, Any]:
    text, accuracy, tags = completion(index, skill, rng)
    asked, gold = question(index)
    return {
        "problem": f"sums-{index:04x}",
        "prompt": f"Think first.\n\nUser: {asked}\nAssistant:",
        "completion": text,
        "answer": str(gold),
        "reward": accuracy + tags,
        "length": len(text) // 2,
        "finish": "stop",
        "reward_accuracy": accuracy,
        "reward_format": tags,
    }


def write_run(folder: Path, seed: int = 0, steps: int = 120, beta: float = 0.0, until: int | None = None) -> Path:
    """A run of base → zero with its evaluations; ``until`` leaves it in the middle of its RL stage."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    file = folder / "source.yaml"
    replaced = {"NAME": folder.name, "SEED": str(seed), "STEPS": str(steps), "BETA": str(beta)}
    text = CONFIG
    for word, value in replaced.items():
        text = text.replace(word, value)
    file.write_text(text)
    dump_config(load_config(file, ()), folder / "config.yaml")
    file.unlink()
    pretrain = FileTracker(folder / "base", None)
    for step in range(1, 201):
        pretrain.log(step, {"pretrain/loss": 1.2 + 4 * math.exp(-step / 25) + rng.gauss(0, 0.03), "pretrain/lr": 2e-3})
    pretrain.close()
    zero = FileTracker(folder / "zero", None)
    last = until or steps
    for step in range(1, last + 1):
        values = metrics_at(step, steps, rng)
        if step % max(1, steps // 6) == 0:
            values |= {"eval/held_out/pass@1": values["reward/accuracy/mean"], "eval/held_out/format": 0.9}
        zero.log(step, values)
        skill = values["reward/accuracy/mean"]
        rows = [sample(rng.randrange(5000), skill, rng) for _ in range(3)] + [sample(7, skill, rng)] * (step % 10 == 1)
        if step == last:
            rows[0]["completion"] = f"<think>{HOSTILE}</think>"
        zero.samples(step, rows)
    zero.close()
    results: dict[str, dict[str, float]] = {"base": {}, "base-eval": evaluation(folder / "base-eval", 0.05, rng)}
    if until is None:
        results |= {"zero": {"reward/mean": 1.9}, "zero-eval": evaluation(folder / "zero-eval", 0.93, rng)}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def evaluation(folder: Path, skill: float, rng: random.Random) -> dict[str, float]:
    folder.mkdir()
    rows = [sample(i, skill, rng) for i in (7, 8, 9)]
    samples = [
        {"question": question(i)[0], **{k: row[k] for k in ("answer", "completion", "reward")}}
        for i, row in zip((7, 8, 9), rows, strict=True)
    ]
    saved = {"problems": [row["problem"] for row in rows], "correct": [skill] * 3, "samples": samples}
    (folder / "evaluation.json").write_text(json.dumps({"held_out": saved}))
    figures = {"pass@1": skill + rng.gauss(0, 0.01), "pass@8": min(1.0, skill + 0.05), "maj@8": min(1.0, skill + 0.03)}
    return {
        f"held_out/{k}": v
        for k, v in (figures | {"length": 40.0, "truncated": 0.01, "problems": 500.0, "format": skill}).items()
    }
