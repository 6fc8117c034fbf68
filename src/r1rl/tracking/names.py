"""Every metric: its name, unit and meaning, in one table, from which docs/metrics.md is made.

``NAME`` stands for the name of a reward, ``SOURCE`` for that of a dataset.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from r1rl.tracking.jsonl import NON_FINITE

GROUPS = {
    "reward": "what completions were worth",
    "rollout": "what was sampled",
    "policy": "the update",
    "time": "where a step's time went",
    "verify": "how answers were checked",
    "code": "what became of programs",
    "system": "the machine and the run itself",
    "eval": "held-out problems",
    "data": "what was read",
    "pretrain": "the base model's own training",
    "sft": "supervised fine-tuning",
    "reward_model": "a reward model's training",
}
"""Prefixes of the names, and what each group is about."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's unit and meaning."""

    unit: str
    meaning: str


METRICS: dict[str, Metric] = {
    "reward/mean": Metric("reward", "mean of the weighted sum over the step's scored completions"),
    "reward/std": Metric("reward", "its standard deviation over the step's scored completions"),
    "reward/unscored": Metric(
        "share", "completions to which no reward function with a weight applied; they are left out of everything"
    ),
    "reward/NAME/mean": Metric("reward", "mean of one reward function over the step's completions that it applied to"),
    "reward/NAME/std": Metric("reward", "its standard deviation"),
    "reward/NAME/none": Metric("share", "the step's completions that it did not apply to (returned None)"),
    "reward/NAME/timeouts": Metric("count", "calls and checks stopped at their time or processor limit"),
    "reward/NAME/errors": Metric("count", "checks that raised an error or lost their worker"),
    "reward/NAME/crashes": Metric("count", "calls that ended their process or grew beyond scoring.function_memory_mb"),
    "reward/NAME/lost": Metric(
        "share",
        "completions of its calls whose call or check was lost, those of replaced groups and evaluations included",
    ),
    "reward/NAME/p50_ms": Metric("ms", "median time of one call"),
    "reward/NAME/p99_ms": Metric("ms", "99th percentile of the time of one call"),
    "rollout/zero_variance_groups": Metric("share", "groups whose scored rewards are all equal: no gradient from them"),
    "rollout/truncated": Metric("share", "completions cut at rollout.max_new_tokens"),
    "rollout/length_mean": Metric("tokens", "mean length of a completion"),
    "rollout/length_max": Metric("tokens", "longest completion"),
    "rollout/completions": Metric("count", "completions of the step; those without a reward are not learned from"),
    "rollout/tokens": Metric("tokens", "tokens of these completions"),
    "rollout/prompt_tokens": Metric("tokens", "tokens of their prompts, counted once per completion"),
    "rollout/completions_per_s": Metric("1/s", "completions divided by the time of the whole step"),
    "rollout/servers": Metric("count", "vLLM servers running when the step ended"),
    "rollout/server_failures": Metric("count", "times a vLLM server was lost since the start"),
    "rollout/server_restarts": Metric("count", "times a launched one was restarted since the start"),
    "rollout/resubmitted": Metric("count", "groups resubmitted since the start"),
    "rollout/duplicates_dropped": Metric("count", "answers received twice since the start; the second is discarded"),
    "rollout/sync_gap": Metric("nats/token", "mean |log π_learner − log π_engine| of the probe tokens after the sync"),
    "rollout/staleness_mean": Metric("steps", "age of the sampled tokens when they are trained on"),
    "rollout/staleness_max": Metric("steps", "age of the oldest token"),
    "rollout/staleness/AGE": Metric("share", "tokens of this age"),
    "rollout/mixed_versions": Metric("share", "completions that were running while the weights changed"),
    "rollout/dropped_stale": Metric("count", "groups older than rollout.max_staleness, not trained on"),
    "rollout/dynamic_rounds": Metric("count", "rounds of sampling until enough groups were useful"),
    "rollout/dynamic_drawn": Metric("count", "groups requested in these rounds"),
    "rollout/dynamic_sampled": Metric("count", "groups that were sampled to their end and scored"),
    "rollout/dynamic_tokens": Metric("tokens", "their tokens, those of replaced groups included"),
    "rollout/dynamic_useful": Metric(
        "count", "groups neither all right nor all wrong, those kept included; where it is 0, the step learns nothing"
    ),
    "rollout/dynamic_reward": Metric("reward", "mean total reward of all groups sampled, those replaced included"),
    "rollout/dynamic_reward/NAME": Metric("reward", "mean of one reward function over them"),
    "rollout/dynamic_kept": Metric("count", "useful groups left over from earlier steps"),
    "policy/loss": Metric("loss", "the loss as its own denominator normalises it, mean over the step's updates"),
    "policy/grad_norm": Metric("norm", "gradient norm before clipping"),
    "policy/lr": Metric("1/update", "learning rate"),
    "policy/kl": Metric("nats/token", "k3 divergence from the reference"),
    "policy/entropy": Metric("nats/token", "entropy of the policy on the completions it trained on"),
    "policy/clip_fraction": Metric("share", "tokens whose ratio was clipped"),
    "policy/approx_kl": Metric("nats/token", "k3 divergence from the policy before the rollout's first update"),
    "policy/ratio_deviation": Metric("ratio", "mean |π/π_old − 1| over the step's updates"),
    "policy/first_ratio_deviation": Metric("ratio", "the same in its first update, where both are one policy: near 0"),
    "policy/engine_mismatch": Metric("nats/token", "mean |log π_learner − log π_engine| of the sampled tokens"),
    "policy/engine_mismatch_max": Metric("nats/token", "largest |log π_learner − log π_engine| of a sampled token"),
    "policy/engine_kl": Metric("nats/token", "k3 divergence KL(π_engine ‖ π_learner) on the sampled tokens"),
    "policy/sequence_masked": Metric("share", "tokens of completions that grpo.sequence_mask left out"),
    "policy/forwarded_fraction": Metric(
        "share", "scored completions that were forwarded through the model; the others have no gradient"
    ),
    "policy/tokens": Metric("tokens", "prompts and completions that went through the model in the step's updates"),
    "policy/updates": Metric("count", "minibatches × epochs; one without a completion to train on changes nothing"),
    "policy/micro_batches": Metric("count", "packed micro-batches per update"),
    "policy/imbalance": Metric("ratio", "tokens of the fullest process over the mean; 1 is even"),
    "policy/updates_skipped": Metric("count", "updates skipped since the start: loss or gradient not finite"),
    "policy/version": Metric("count", "version of the policy that the engine samples from next; each step makes one"),
    "policy/guards_crossed": Metric("count", "bounds under grpo.guards that this step crossed"),
    "time/step": Metric("s", "one whole step; this and the other times are those of the slowest process"),
    "time/rollout": Metric("s", "sampling and scoring"),
    "time/update": Metric("s", "the learner's updates, old and reference passes included"),
    "time/sync": Metric("s", "sending new weights to the engine"),
    "verify/found_none": Metric("share", "completions in which `accuracy` found no answer, or none that is whole"),
    "verify/found_RULE": Metric(
        "share",
        "completions whose answer `accuracy` read by this rule: box, answer_tag, hashes (`#### 5`), phrase (`answer is "
        "5`), formula (the last one), bare (the last number or plain expression)",
    ),
    "verify/OUTCOME": Metric("count", "checks of the step with this outcome, or answered from the cache (remembered)"),
    "code/passed": Metric("share", "completions whose program passed all tests; like all of these, a mean over groups"),
    "code/wrong": Metric("share", "whose program ended normally on the first test that failed, with another result"),
    "code/runtime_error": Metric("share", "whose program raised an exception, was killed or ended early"),
    "code/time": Metric("share", "whose program reached its processor or wall time"),
    "code/memory": Metric("share", "whose program reached its memory limit"),
    "code/output": Metric("share", "whose program wrote more than allowed"),
    "code/compile": Metric("share", "whose program does not compile; for Python, a syntax error"),
    "code/forbidden": Metric("share", "whose program attempted what the sandbox forbids"),
    "code/no_program": Metric("share", "without a closed fenced block of the language; worth 0"),
    "code/unjudged": Metric("share", "whose tests cannot be run, or whose runner failed; without a reward"),
    "code/tests": Metric("share", "tests that passed, mean over completions; those after an early stop did not"),
    "system/tracker_failures": Metric("count", "calls to a tracking service that failed since the start"),
    "eval/SOURCE/pass@1": Metric("share", "completions that are correct, mean over held-out problems"),
    "eval/SOURCE/pass@COUNT": Metric("share", "problems that at least one of COUNT completions solves"),
    "eval/SOURCE/maj@COUNT": Metric("share", "problems whose most frequent answer is correct"),
    "eval/SOURCE/length": Metric("tokens", "mean length of a completion"),
    "eval/SOURCE/truncated": Metric("share", "completions cut at the limit"),
    "eval/SOURCE/problems": Metric("count", "held-out problems measured"),
    "eval/SOURCE/unjudged": Metric("share", "completions that evaluate.reward gave no value, if any; left out"),
    "eval/SOURCE/NAME": Metric("reward", "mean of any other reward function"),
    "pretrain/loss": Metric("nats/token", "cross-entropy on the corpus"),
    "pretrain/lr": Metric("1/update", "learning rate"),
    "sft/loss": Metric("nats/token", "cross-entropy on the responses"),
    "sft/lr": Metric("1/update", "learning rate"),
    "sft/grad_norm": Metric("norm", "gradient norm before clipping"),
    "sft/token_accuracy": Metric("share", "response tokens that the model ranked first"),
    "reward_model/loss": Metric("nats/pair", "Bradley–Terry loss"),
    "reward_model/lr": Metric("1/update", "learning rate"),
    "reward_model/grad_norm": Metric("norm", "gradient norm before clipping"),
    "reward_model/accuracy": Metric("share", "pairs in which the chosen response scored higher"),
    "reward_model/margin": Metric("reward", "mean difference of the two scores"),
    "reward_model/held_out_accuracy": Metric("share", "the same on held-out pairs"),
    "reward_model/held_out_margin": Metric("reward", "the same on held-out pairs"),
    "data/SOURCE/problems": Metric("count", "problems of a training source; logged with the first step"),
    "data/SOURCE/skipped_REASON": Metric("count", "its rows and problems left out, by reason; with the first step"),
}
"""By name; upper-case words stand for any name. A package that logs a new metric adds it here."""

_PLACEHOLDER = re.compile(r"[A-Z]{2,}")


def describe(name: str) -> Metric | None:
    """Unit and meaning of a logged metric; None if it is not in the table."""
    name = name.removesuffix(NON_FINITE)
    if name in METRICS:
        return METRICS[name]
    return next((metric for pattern, metric in METRICS.items() if _matches(pattern, name)), None)


def undocumented(names: Iterable[str]) -> list[str]:
    """The names that are not in the table."""
    return sorted(name for name in names if describe(name) is None)


INTRO = """\
# Metrics: what every number means

Made from the table in `src/r1rl/tracking/names.py` by `python -m r1rl.tracking.names > docs/metrics.md`; do not edit.

The names are the same in `metrics.jsonl`, wandb, trackio and TensorBoard, and the first part groups them there.
`NAME` stands for a reward function, `SOURCE` for a dataset, other words in capitals for any. A value that was not
finite is written as `null` (left out by the services), with `METRIC/non_finite` 1 beside it.

Reward functions add their own by `log_metric(name, value)`. What to look for in them: [dashboard.md](dashboard.md).
"""


def markdown() -> str:
    """The page in Markdown, grouped."""
    lines = [INTRO]
    for group, title in GROUPS.items():
        rows = [(name, metric) for name, metric in METRICS.items() if name.startswith(f"{group}/")]
        if rows:
            lines += [f"\n## {group}: {title}\n", "| Metric | Unit | Meaning |", "| --- | --- | --- |"]
            lines += [f"| `{name}` | {m.unit} | {m.meaning.replace('|', chr(92) + '|')} |" for name, m in rows]
    return "\n".join(lines).strip() + "\n"


def _matches(pattern: str, name: str) -> bool:
    if not _PLACEHOLDER.search(pattern):
        return False
    parts = _PLACEHOLDER.split(pattern)
    return re.fullmatch(".+".join(map(re.escape, parts)), name) is not None


if __name__ == "__main__":
    print(markdown(), end="")
