"""Finds values that are each valid but conflict, before anything is downloaded or trained."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import ValidationError

from r1rl.config.applied import SOFT_OVERLONG, applying, idle, training_rewards
from r1rl.config.kinds import Conflict, Kind, final_stage, kind_of
from r1rl.config.references import Reference, pick, references_in, strings
from r1rl.config.rewards import RewardConfig
from r1rl.config.schema import RunConfig, StageConfig, stages_of
from r1rl.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_names(run: RunConfig) -> Iterator[Conflict]:
    """Names that become folders."""
    if run.name in ("", ".", "..") or "/" in run.name or "\\" in run.name:
        yield ("name",), f"the run folder is output_dir/name, so name cannot be {run.name!r}"
    for stage in run.stages:
        if not _NAME.fullmatch(stage):
            yield ("stages", stage), "a stage's name is a folder's: letters, digits, - and _ only"


def check_kinds(run: RunConfig) -> Iterator[Conflict]:
    """Kinds of stages exist."""
    for name, stage in run.stages.items():
        try:
            kind_of(stage.kind)
        except ConfigError as error:
            yield ("stages", name, "kind"), str(error)


def check_hub(run: RunConfig) -> Iterator[Conflict]:
    """What is pushed must be made."""
    if run.hub is not None and final_stage(run) is None:
        yield ("hub", "repo"), "no stage makes a model to push: add a stage that trains or exports one, or remove hub"


def check_stage(run: RunConfig, stage: str, resolved: RunConfig) -> Iterator[Conflict]:
    """Everything wrong with one stage; ``resolved`` is the run as the stage sees it."""
    plan = stages_of(run)
    kind = kind_of(plan[stage].kind)
    yield from _args(plan[stage], kind, resolved)
    for check in kind.checks:
        yield from check(resolved)
    yield from _references(run, stage, resolved)
    if "model" in kind.uses:
        yield from _start(run, stage, resolved)


def _args(stage: StageConfig, kind: Kind, resolved: RunConfig) -> Iterator[Conflict]:
    """The keys of a kind of the user's own, which the schema leaves open."""
    if kind.section != "args":
        if stage.args:
            yield ("args",), f"a stage of kind {stage.kind} takes none; its keys go under {kind.section}"
        return
    try:
        kind.read_args(resolved.args)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            unknown = item["type"] == "extra_forbidden"
            keys = ", ".join(kind.args.model_fields if kind.args else ()) or "none"
            what = f"unknown key; a stage of kind {stage.kind} takes {keys}" if unknown else item["msg"]
            yield ("args", *map(str, item["loc"])), what


def _start(run: RunConfig, stage: str, resolved: RunConfig) -> Iterator[Conflict]:
    key, path, plan = ("model", "path"), resolved.model.path, stages_of(run)
    names = list(plan)
    policies = [name for name in names if kind_of(plan[name].kind).policy]
    earlier = [name for name in names[: names.index(stage)] if name in policies]
    if not path:
        choices = f", or an earlier stage: {', '.join(earlier)}" if earlier else ""
        yield key, f"stage {stage} has no model to start from; name a Hugging Face model, a local folder{choices}"
    elif path in names and path not in earlier:
        why = "does not come before it" if path in policies else "makes no model that writes text"
        yield key, f"stage {stage} starts from stage {path}, which {why}"


def _references(run: RunConfig, stage: str, resolved: RunConfig) -> Iterator[Conflict]:
    """Every ``${STAGE.OUTPUT}`` that the stage depends on must name what an earlier stage makes."""
    plan = stages_of(run)
    earlier = list(plan)[: list(plan).index(stage)]
    dumped = resolved.model_dump(mode="json")
    for section in kind_of(plan[stage].kind).parts:
        for path, text in strings(pick(dumped, section), tuple(section.split("."))):
            for reference in references_in(text):
                wrong = _wrong_reference(reference, plan, earlier)
                if wrong:
                    yield path, wrong


def _wrong_reference(reference: Reference, plan: Mapping[str, StageConfig], earlier: list[str]) -> str | None:
    if not reference.stage:
        return f"{reference.text} is not a reference; write ${{STAGE.model}} or ${{STAGE.data}}"
    if reference.stage not in plan:
        near = difflib.get_close_matches(reference.stage, plan, n=1)
        return f"{reference.text}: no stage is called {reference.stage}" + (
            f"; did you mean {near[0]}?" if near else ""
        )
    if reference.stage not in earlier:
        return f"{reference.text}: stage {reference.stage} does not come before this one"
    made = kind_of(plan[reference.stage].kind).outputs
    if reference.output not in made:
        makes = " and ".join(sorted(made)) or "neither model nor data"
        return f"{reference.text}: a stage of kind {plan[reference.stage].kind} makes {makes}"
    return None


def check_groups(run: RunConfig) -> Iterator[Conflict]:
    rollout, grpo = run.rollout, run.grpo
    if rollout.group_size < 2:
        yield (
            ("rollout", "group_size"),
            "advantages compare completions of one question, so with 1 they are all zero; use at least 2 (paper: 16)",
        )
    completions = rollout.prompts_per_step * rollout.group_size
    if completions % grpo.minibatches:
        yield (
            ("grpo", "minibatches"),
            f"{rollout.prompts_per_step} prompts × {rollout.group_size} completions = {completions} do not divide into "
            f"{grpo.minibatches} minibatches",
        )


def check_sampling(run: RunConfig) -> Iterator[Conflict]:
    rollout = run.rollout
    for name, off in (("top_p", 1.0), ("top_k", 0)):
        value = getattr(rollout, name)
        if value != off:
            yield (
                ("rollout", name),
                f"{value} cuts tokens off the sampled distribution but not off the learner's, so the ratios of the "
                f"loss would be wrong; train with {name}: {off:g} (evaluate.{name} is free)",
            )
    if rollout.max_staleness and _embedded(run):
        yield (
            ("rollout", "max_staleness"),
            "engine torch samples with the learner's own weights, so samples are never stale; use 0, or engine: vllm",
        )


def _embedded(run: RunConfig) -> bool:
    """Whether the engine is the embedded one on any machine; ``auto`` may be vLLM where there is a GPU."""
    return run.rollout.engine == "torch" or (run.rollout.engine == "auto" and run.device == "cpu")


def check_vllm(run: RunConfig) -> Iterator[Conflict]:
    rollout, vllm = run.rollout, run.rollout.vllm
    if rollout.engine not in ("vllm", "auto") or _embedded(run):
        return
    if rollout.max_staleness and vllm.mode == "colocate":
        yield (
            ("rollout", "max_staleness"),
            "a colocated vLLM pauses while the learner works, so it cannot sample meanwhile; use 0, or "
            "rollout.vllm.mode: server",
        )
    if rollout.max_staleness and run.grpo.importance_cap == 0:
        yield (
            ("grpo", "importance_cap"),
            "0 would train on stale samples as if they were fresh; use 2, or rollout.max_staleness: 0",
        )
    if vllm.tensor_parallel_size > 1 and vllm.mode == "colocate":
        yield (
            ("rollout", "vllm", "tensor_parallel_size"),
            "colocated, each rank samples its own problems on its own GPU, while the ranks of one tensor-parallel "
            "engine would all have to be given the same requests at the same time; use 1, or rollout.vllm.mode: server",
        )
    if vllm.urls and vllm.mode == "colocate":
        yield ("rollout", "vllm", "urls"), "only servers have addresses; use rollout.vllm.mode: server"
    if vllm.transfer == "ipc" and vllm.mode == "server":
        yield ("rollout", "vllm", "transfer"), "CUDA IPC shares one GPU, which a server does not; use nccl, or shm"
    if vllm.transfer == "direct" and vllm.mode == "server":
        yield ("rollout", "vllm", "transfer"), "a server is another process, so direct cannot reach it; use auto"
    if vllm.transfer == "nccl" and vllm.mode == "colocate":
        yield ("rollout", "vllm", "transfer"), "NCCL needs a GPU on each side; colocated use direct"


def check_lengths(run: RunConfig) -> Iterator[Conflict]:
    if run.grpo.overlong_buffer >= run.rollout.max_new_tokens:
        yield (
            ("grpo", "overlong_buffer"),
            f"the penalty would reach completions of every length; must be below rollout.max_new_tokens "
            f"({run.rollout.max_new_tokens})",
        )


def check_guards(run: RunConfig) -> Iterator[Conflict]:
    guards, grpo = run.grpo.guards, run.grpo
    if guards.max_kl is not None and grpo.beta == 0:
        yield ("grpo", "guards", "max_kl"), "nothing to guard: with grpo.beta 0 no reference is kept and no KL measured"
    if guards.min_entropy is not None and grpo.entropy_every == 0:
        yield ("grpo", "guards", "min_entropy"), "nothing to guard: grpo.entropy_every 0 never measures the entropy"


def check_training_data(run: RunConfig) -> Iterator[Conflict]:
    if not run.data.train:
        yield ("data", "train"), "no training data; add data.train.NAME.path"
    difficulty = run.data.difficulty
    if difficulty and difficulty.min_pass_rate > difficulty.max_pass_rate:
        yield ("data", "difficulty", "min_pass_rate"), "above max_pass_rate: keeps nothing"


def check_rewards(run: RunConfig) -> Iterator[Conflict]:
    if not run.rewards:
        yield ("rewards",), "no reward to learn from; add for example rewards: {accuracy: 1.0}"
    elif all(reward.weight == 0 for reward in run.rewards.values()):
        yield ("rewards",), "every weight is 0, so there is nothing to learn from"
    rewards = training_rewards(run)
    yield from _listed(run, "train", rewards)
    yield from _listed(run, "eval", rewards)
    for source, dataset in run.data.train.items():
        if SOFT_OVERLONG in (dataset.rewards or ()) and SOFT_OVERLONG not in rewards:
            yield (
                ("data", "train", source, "rewards"),
                f"{SOFT_OVERLONG} is switched on by grpo.overlong_buffer, which is 0; set it, or configure the reward",
            )


def check_dynamic_sampling(run: RunConfig) -> Iterator[Conflict]:
    name, rewards = run.rollout.dynamic_sampling.reward, training_rewards(run)
    if run.grpo.dynamic_sampling and name is not None and name not in rewards:
        near = difflib.get_close_matches(name, rewards, n=1) or sorted(rewards)
        yield (
            ("rollout", "dynamic_sampling", "reward"),
            f"no reward is called {name}; configured: {', '.join(near) or 'none'}",
        )


def check_evaluated_rewards(run: RunConfig) -> Iterator[Conflict]:
    yield from _listed(run, "eval", run.rewards)


def check_sampled_rewards(run: RunConfig) -> Iterator[Conflict]:
    yield from _listed(run, "train", run.rewards)


def _listed(run: RunConfig, split: Literal["train", "eval"], rewards: Mapping[str, RewardConfig]) -> Iterator[Conflict]:
    """Sources list only rewards that exist."""
    for source, names in applying(rewards, getattr(run.data, split)).items():
        for name in names or ():
            if name not in rewards:
                near = difflib.get_close_matches(name, rewards, n=1) or sorted(rewards)
                yield (
                    ("data", split, source, "rewards"),
                    f"no reward is called {name}; configured: {', '.join(near) or 'none'}",
                )


def check_idle_rewards(run: RunConfig, views: Mapping[str, RunConfig]) -> Iterator[Conflict]:
    """A reward that no source lists in any of the stages that have it never runs."""
    having: dict[str, list[str]] = {}
    used: set[str] = set()
    for stage, view in views.items():
        if applies := kind_of(view.stages[stage].kind).applies:
            resting = idle(view.rewards, applies(view))
            used.update(name for name in view.rewards if name not in resting)
            for name in resting:
                having.setdefault(name, []).append(stage)
    for name, stages in having.items():
        if name not in used:
            own = run.stages and name in (run.stages[stages[0]].rewards or ())
            yield (
                ("stages", stages[0], "rewards", name) if own else ("rewards", name),
                f"never runs: no source lists it under its rewards (stage {', '.join(stages)}); add it to one, or "
                "remove it",
            )


def check_difficulty(run: RunConfig) -> Iterator[Conflict]:
    reward = run.evaluate.reward
    if run.data.difficulty is None:
        return
    if reward not in run.rewards:
        yield (
            ("evaluate", "reward"),
            f"data.difficulty measures how often a completion is right by {reward}, which is not one of the rewards "
            f"({', '.join(run.rewards) or 'none'})",
        )
    elif run.data.train and all(reward not in (s.rewards or [reward]) for s in run.data.train.values()):
        yield ("data", "difficulty"), f"nothing to filter: no training source lists {reward} under its rewards"


def check_kept_rewards(run: RunConfig) -> Iterator[Conflict]:
    for name in run.sample.keep:
        if name not in run.rewards:
            near = difflib.get_close_matches(name, run.rewards, n=1) or sorted(run.rewards)
            yield ("sample", "keep"), f"no reward is called {name}; configured: {', '.join(near) or 'none'}"
    for name in run.sample.limits:
        if name not in run.data.train and name not in run.sample.mix:
            yield ("sample", "limits"), f"no source is called {name}; there are {', '.join(run.data.train)}"


def check_evaluation_data(run: RunConfig) -> Iterator[Conflict]:
    if not run.data.eval:
        yield ("data", "eval"), "no evaluation data; add data.eval.NAME.path"


def check_periodic_evaluation(run: RunConfig) -> Iterator[Conflict]:
    if run.grpo.eval_every and not run.data.eval:
        yield ("grpo", "eval_every"), "no evaluation data; add data.eval.NAME.path, or use 0"


def check_architecture(run: RunConfig) -> Iterator[Conflict]:
    model = run.pretrain.model
    key = ("pretrain", "model")
    if model.hidden_size % model.heads:
        yield (*key, "heads"), f"hidden_size {model.hidden_size} does not divide into {model.heads} heads"
    elif model.hidden_size // model.heads % 2:
        yield (*key, "heads"), f"rotary positions need an even head size, not {model.hidden_size // model.heads}"
    if model.heads % model.kv_heads:
        yield (*key, "kv_heads"), f"{model.heads} heads do not divide into {model.kv_heads} key-value heads"
