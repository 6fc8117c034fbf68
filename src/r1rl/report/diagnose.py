"""The four questions about a run: is it learning, is it cheating, is it broken, how much longer.

Each answer is a rule of thumb with its figures beside it. It points to a chart; the reader decides.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, pvariance

from r1rl.records import Rows
from r1rl.report.read import RunFolder, Stage
from r1rl.report.symptoms import (
    BAD,
    GOOD,
    LEVELS,
    NO_SIGNAL,
    UNKNOWN,
    WARN,
    checked_rewards,
    lost_share,
    percent,
    symptoms,
    values,
)
from r1rl.tracking.console import duration

LEAST = 10
"""Steps needed for an answer."""


@dataclass(slots=True)
class Finding:
    """An answer: its level, a short text, and the figures it is based on."""

    level: str
    words: str
    why: list[str] = field(default_factory=list)


def questions(run: RunFolder, now: float) -> dict[str, Finding]:
    """The answers for the run's stage of interest: the RL stage it is in, or the last one it had."""
    stage = stage_of_interest(run)
    if stage is None:
        nothing = Finding(UNKNOWN, "Nothing yet", ["No RL stage has logged a step."])
        return dict.fromkeys(("Is it learning?", "Is it cheating?", "Is it broken?", "How much longer?"), nothing)
    return {
        "Is it learning?": learning(run, stage),
        "Is it cheating?": cheating(run, stage),
        "Is it broken?": broken(stage),
        "How much longer?": remaining(run, stage, now),
    }


def stage_of_interest(run: RunFolder) -> Stage | None:
    """The last RL stage with metrics; without one, the last stage that logged anything."""
    logged = [stage for stage in run.stages if stage.metrics]
    return next((s for s in reversed(logged) if "reward/mean" in s.names()), logged[-1] if logged else None)


def ends(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the first tenth, mean of the last, and the standard error of their difference."""
    size = max(3, len(values) // 10)
    first, last = values[:size], values[-size:]
    return fmean(first), fmean(last), math.sqrt((pvariance(first) + pvariance(last)) / size)


def learning(run: RunFolder, stage: Stage) -> Finding:
    """Whether the reward rises by more than its noise, and whether any signal is left."""
    _, reward = stage.curve("reward/mean")
    if len(reward) < LEAST:
        return Finding(UNKNOWN, "Too early to say", [f"{len(reward)} steps so far."])
    first, last, error = ends(reward)
    why = [f"Reward {first:.2f} → {last:.2f}, first tenth of the steps against the last."]
    why += [f"Held-out accuracy on {name}: {percent(a)} → {percent(b)}." for name, a, b in held_out(run, stage)]
    _, flat = stage.curve(NO_SIGNAL.metric)
    silent = NO_SIGNAL.read(flat) if flat else 0.0
    if flat:
        why.append(f"{percent(silent)} of groups carried no signal recently.")
    if last - first > 3 * error and last - first > 0.01:
        return Finding(GOOD, "Yes, still rising" if _rising(reward) else "Yes, and it has settled", why)
    if first - last > 3 * error and first - last > 0.01:
        return Finding(BAD, "It is unlearning", why)
    if silent > NO_SIGNAL.bound:
        return Finding(BAD, "No: no signal", [*why, "Problems are too hard or too easy, or a reward never varies."])
    return Finding(WARN, "Not visibly", why)


def cheating(run: RunFolder, stage: Stage) -> Finding:
    """Whether the reward rises while quality does not."""
    _, reward = stage.curve("reward/mean")
    if len(reward) < LEAST:
        return Finding(UNKNOWN, "Too early to say")
    signs = [sign for check in CHEATS for sign in check(run, stage)]
    if signs:
        return Finding(WARN, "Look closer", signs)
    if len(stage.curve("reward/accuracy/mean")[1]) < LEAST:
        return Finding(UNKNOWN, "Cannot tell", ["No accuracy to compare the reward with was logged. Read completions."])
    return Finding(GOOD, "No sign of it", ["Reward, accuracy and length move together. Read some completions anyway."])


def _reward_without_accuracy(run: RunFolder, stage: Stage) -> list[str]:
    _, reward = stage.curve("reward/mean")
    _, accuracy = stage.curve("reward/accuracy/mean")
    if len(accuracy) < LEAST:
        return []
    (before, after, error), (low, high, _) = ends(accuracy), ends(reward)
    fell = before - after > max(3 * error, 0.02)
    return [f"Accuracy fell {percent(before)} → {percent(after)} while the reward rose."] if fell and high > low else []


def _memorised(run: RunFolder, stage: Stage) -> list[str]:
    _, accuracy = stage.curve("reward/accuracy/mean")
    after = [b for _, _, b in held_out(run, stage)]
    if len(accuracy) < LEAST or not after:
        return []
    gap = ends(accuracy)[1] - fmean(after)
    text = f"Training accuracy is {100 * gap:.0f} points above held-out: memorised, or the splits differ."
    return [text] if gap > 0.15 else []


def _length_without_accuracy(run: RunFolder, stage: Stage) -> list[str]:
    _, length = stage.curve("rollout/length_mean")
    _, accuracy = stage.curve("reward/accuracy/mean")
    if len(length) < LEAST or len(accuracy) < LEAST:
        return []
    (short, long, _), (before, after, _) = ends(length), ends(accuracy)
    if after > before + 0.02:
        return []
    if long > 1.5 * short:
        return [f"Length grew {short:.0f} → {long:.0f} tokens while accuracy did not."]
    return [f"Length collapsed {short:.0f} → {long:.0f} tokens."] if long < 0.4 * short else []


def _one_text_for_all(run: RunFolder, stage: Stage) -> list[str]:
    late = [row for row in stage.samples if row["step"] > 0.8 * stage.step]
    texts = Counter(str(row.get("completion")) for row in late)
    problems = {row.get("problem_id", row.get("problem")) for row in late}
    if len(late) < LEAST or len(problems) < 5:
        return []
    share = texts.most_common(1)[0][1] / len(late)
    return [f"{percent(share)} of late completions are one text, whatever the problem."] if share > 0.5 else []


CHEATS: tuple[Callable[[RunFolder, Stage], list[str]], ...] = (
    _reward_without_accuracy,
    _memorised,
    _length_without_accuracy,
    _one_text_for_all,
)


def broken(stage: Stage) -> Finding:
    """Whether anything is not finite, lost, mismatched or collapsed."""
    if not stage.metrics:
        return Finding(UNKNOWN, "Nothing yet")
    found = symptoms(stage.metrics)
    if not found:
        return Finding(GOOD, "Nothing found", [_in_order(stage.metrics)])
    level = max((level for level, _ in found), key=LEVELS.index)
    return Finding(level, "Yes" if level == BAD else "Look closer", [text for _, text in found])


def _in_order(rows: Rows) -> str:
    """What was logged and looked at, in words."""
    found = ["All values finite"]
    shares = [lost_share(rows, reward) for reward in checked_rewards(rows)]
    if shares:
        found.append(f"at most {percent(max(shares))} of a reward's checks lost" if max(shares) else "no check lost")
    if values(rows, "policy/engine_mismatch"):
        found.append("sampler and learner agree")
    return ", ".join(found) + "."


def remaining(run: RunFolder, stage: Stage, now: float) -> Finding:
    """Time left at the pace of the last steps; evaluations and later stages are not included."""
    _, seconds = stage.curve("time/step")
    spent = duration(sum(seconds)) if seconds else "unknown time"
    later = [s.name for s in run.stages[run.stages.index(stage) + 1 :] if not s.finished]
    then = [f"Then: {', '.join(later)}."] if later else []
    if stage.finished or (stage.total is not None and stage.step >= stage.total):
        return Finding(
            GOOD, "Done" if not later else f"{stage.name} is done", [f"{stage.step} steps in {spent}.", *then]
        )
    of_total = f" of {stage.total}" if stage.total else ""
    why = [f"{stage.name}: step {stage.step}{of_total} after {spent}."]
    pace = median(seconds[-20:]) if seconds else 0.0
    silence = now - stage.written if stage.written is not None else 0.0
    if silence > max(120.0, 10 * pace):
        why += [f"Nothing was written for {duration(silence)}. The same command resumes it.", *then]
        return Finding(WARN, "Stopped?", why)
    if not stage.total or not pace:
        return Finding(UNKNOWN, "Unknown", why + then)
    why += [f"{pace:.3g} s per step recently.", *then]
    return Finding(GOOD, f"About {duration((stage.total - stage.step) * pace)}", why)


def held_out(run: RunFolder, stage: Stage) -> list[tuple[str, float, float]]:
    """Held-out pass@1 before and after a stage: source, first and last figure.

    From the evaluation stages of the model it started from and of its own, else from evaluations while it trained,
    the first of which is taken when something has already been learned.
    """
    before, after = _evaluation_of(run, stage.start), _evaluation_of(run, stage.name)
    names = [name for name in before if name.endswith("/pass@1") and name in after]
    if names:
        return [(_source_of(name), before[name], after[name]) for name in names]
    curves = {name: stage.curve(name)[1] for name in stage.names() if re.fullmatch(r"eval/.+/pass@1", name)}
    return [(_source_of(name), values[0], values[-1]) for name, values in curves.items() if len(values) > 1]


def _source_of(name: str) -> str:
    return name.removeprefix("eval/").removesuffix("/pass@1")


def _evaluation_of(run: RunFolder, model: str) -> dict[str, float]:
    return next((s.results for s in run.stages if s.kind == "evaluate" and s.start == model), {})


def _rising(values: Sequence[float]) -> bool:
    fifth = max(3, len(values) // 5)
    earlier, later = values[-2 * fifth : -fifth], values[-fifth:]
    if len(earlier) < 3:
        return False
    error = math.sqrt((pvariance(earlier) + pvariance(later)) / fifth)
    return fmean(later) - fmean(earlier) > 2 * error
