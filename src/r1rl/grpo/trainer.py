"""GRPO, from the first step to the last: what the stage, the command line and the Python API all use."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from accelerate import Accelerator

from r1rl.config import RunConfig
from r1rl.config.applied import held_out, idle, training_applies, training_rewards
from r1rl.config.derived import derive
from r1rl.data.overlap import ensure_disjoint, read_questions
from r1rl.data.problems import ProblemSets, load_problems
from r1rl.data.stream import PromptStream
from r1rl.distributed.collectives import failing_together, from_main
from r1rl.distributed.cores import cores, learner_threads
from r1rl.distributed.interrupt import PREEMPTED, Interrupt, Interrupted
from r1rl.distributed.processes import lost_peers
from r1rl.errors import R1Error, TrainingError
from r1rl.evaluation.measure import Evaluation, check_lengths, evaluate
from r1rl.files import alone_in, claim
from r1rl.fingerprint.identity import Identity
from r1rl.fingerprint.mark import take
from r1rl.grpo import guards
from r1rl.grpo.ahead import AheadExperience
from r1rl.grpo.backend import places_weights
from r1rl.grpo.batch import Rollout, make_batch
from r1rl.grpo.difficulty import Difficulty
from r1rl.grpo.dynamic_sampling import DynamicExperience
from r1rl.grpo.experience import Experience, PlainExperience, StepPrompts, check_gathered
from r1rl.grpo.learner import Learner, Metrics, NonFiniteUpdate
from r1rl.grpo.memory import out_of_memory
from r1rl.grpo.metrics import over_ranks, rollout_metrics, sample_rows
from r1rl.grpo.resume import SavedRun
from r1rl.grpo.run import Run, Stopwatch
from r1rl.model.lengths import check_prompts
from r1rl.model.load import load_policy
from r1rl.rollout.build import build_engine, decided, samples_in_process
from r1rl.rollout.collect import Rollouts
from r1rl.rollout.engine import Engine, rest
from r1rl.scoring import Scorer
from r1rl.scoring.metrics import call_metrics
from r1rl.tracking import Tracker, build_tracker
from r1rl.tracking.console import Console
from r1rl.tracking.jsonl import figures
from r1rl.tracking.messages import show_messages
from r1rl.types import SamplingParams, ScoredGroup

log = logging.getLogger(__name__)

HEADLINES = {
    "reward/mean": "reward",
    "reward/accuracy/mean": "accuracy",
    "rollout/length_mean": "length",
    "policy/loss": "loss",
    "rollout/completions_per_s": "completions/s",
}
"""Metrics that the console shows while training, and their names there."""


class GRPOTrainer:
    """Trains one policy by GRPO.

    Args:
        config: the run as its grpo stage sees it (``r1rl.stage_config``), ``model.path`` a checkpoint.
        folder: receives metrics.jsonl, samples.jsonl, checkpoints/ and model/.
        overwrite: where the folder holds work that was made with other settings, files or code, rename it and start
            from the beginning; otherwise :meth:`train` refuses.
        fingerprint: identifies everything that the run learns from; computed where it is not given.

    Example:
        >>> from r1rl import GRPOTrainer, load_config
        >>> GRPOTrainer(load_config("zero.yaml"), Path("runs/mine/grpo")).train()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: RunConfig,
        folder: str | Path,
        *,
        accelerator: Accelerator | None = None,
        console: Console | None = None,
        overwrite: bool = False,
        fingerprint: str = "",
        interrupt: Interrupt | None = None,
    ) -> None:
        self.accelerator = accelerator or Accelerator()
        config = decided(config, self.accelerator.device.type == "cuda")
        self.config, self.folder = config, Path(folder)
        self.overwrite, self.fingerprint = overwrite, fingerprint
        main = self.accelerator.is_main_process
        self.console = console or Console(quiet=not (config.tracking.console and main))
        if console is None:
            show_messages(self.console, self.accelerator.process_index)
        self.interrupt = interrupt or Interrupt()
        self.policy = load_policy(
            config.model, self.accelerator.device, config.seed, mapped=places_weights(self.accelerator)
        )
        self.policy.check_saving()
        self.params = SamplingParams(
            config.rollout.max_new_tokens, config.rollout.temperature, stop=tuple(config.rollout.stop)
        )

    def train(self) -> Metrics:
        """Run to the last step, resuming from the newest checkpoint; the model is left in ``folder/model``.

        Returns:
            The last step's metrics, also where the run was already finished.

        Raises:
            R1Error: ``folder`` holds work that was made with other settings, files or code (see ``overwrite``), or
                files of something else.
            StorageError: another process trains in ``folder``.
            TrainingError: a guard stopped the run, memory ran out, or another process was lost.
            Preempted: a scheduler, or Ctrl-C, asked the run to end; it left a checkpoint.
        """
        with self._claimed():
            with self._open() as run, self._explaining(run):
                try:
                    while run.step < self.config.grpo.steps:
                        self.train_step(run)
                except Interrupted:
                    self._leave(run)
                except NonFiniteUpdate as error:
                    saved = run.save()
                    raise TrainingError(
                        f"{error}. The state before that update is saved, with its rollout, in {saved}: the same "
                        "command resumes there"
                    ) from error
            self.policy.save(self.folder / "model", write=self.accelerator.is_main_process)
            self.accelerator.wait_for_everyone()
        return run.metrics

    def train_step(self, run: Run) -> None:
        """One step of the algorithm: problems → groups → scores → advantages → update → new weights to the engine.

        Raises:
            Interrupted: a stop was requested; ``run`` is as the last complete update left it, including its rollout.
            TrainingError: the step crossed a bound of ``guards`` and ``guards.action`` is stop; raised on every rank,
                once the step is logged and saved.
        """
        watch = Stopwatch()
        rollout = run.rollout = run.rollout or self._collect(run)
        watch.lap("rollout")
        rest(run.engine)
        learned = run.learner.update(rollout.batch)
        watch.lap("update")
        run.rollout, run.version = None, run.version + 1
        run.engine.sync(run.version)
        watch.lap("sync")
        run.step += 1
        self._finish(run, rollout.groups, learned, watch.metrics())

    def _collect(self, run: Run) -> Rollout:
        cfg = self.config.grpo
        groups = run.experience.collect(run.step)
        check_gathered(groups)
        useful = [group for group in groups if run.experience.useful(group)]
        batch = make_batch(useful, cfg.scale_rewards, cfg.mask_truncated)
        if not batch.samples and self.accelerator.is_main_process:
            scored = any(len(group.scored) for group in groups)
            why = "no group is useful (dynamic sampling)" if scored else "no reward function applied to any completion"
            log.warning("step %d: %s: nothing to learn from", run.step + 1, why)
        return Rollout(groups, batch)

    def _finish(self, run: Run, groups: list[ScoredGroup], learned: Metrics, seconds: Metrics) -> None:
        """Log the step; evaluate and save where they are due."""
        cfg = self.config.grpo
        metrics = run.metrics = self._measure(run, groups, learned, seconds)
        crossed = guards.crossings(cfg.guards, run.step, metrics)
        metrics["policy/guards_crossed"] = float(len(crossed))
        rows = sample_rows(groups, self.config.tracking.samples_per_step)
        if due(run.step, cfg.eval_every):
            for name, evaluation in self._evaluate(run):
                metrics |= {f"eval/{name}/{key}": value for key, value in evaluation.metrics.items()}
                rows += sample_rows(evaluation.groups, self.config.evaluate.show)
        # Logged before the checkpoint: a run killed between the two repeats the step and its line, and loses neither.
        run.tracker.log(run.step, metrics)
        run.tracker.samples(run.step, rows)
        stop = bool(crossed) and cfg.guards.action == "stop"
        if stop or due(run.step, cfg.checkpoint_every) or run.step == cfg.steps:
            saved = run.save(score(metrics))
            if stop:
                raise TrainingError(
                    f"{' | '.join(crossed)}. The run stopped there, as grpo.guards.action says; this step is in "
                    f"metrics.jsonl and samples.jsonl, and saved in {saved}: the same command resumes from it"
                )
        for message in crossed if self.accelerator.is_main_process else ():  # the same on every rank
            log.warning(message)
        shown = {label: metrics[name] for name, label in HEADLINES.items() if name in metrics}
        run.progress.update(done=run.step, **shown)

    def _measure(self, run: Run, groups: list[ScoredGroup], learned: Metrics, seconds: Metrics) -> Metrics:
        """The step's metrics, over all ranks; collective."""
        own = run.engine.metrics() | seconds
        everywhere = run.learner.backend.gather([(run.scorer.drain(), own)])
        metrics = call_metrics([measured for measured, _ in everywhere]) | over_ranks([own for _, own in everywhere])
        metrics |= rollout_metrics(groups) | learned | run.experience.metrics() | run.opening
        run.opening = {}
        metrics["rollout/completions_per_s"] = metrics["rollout/completions"] / metrics["time/step"]
        metrics["policy/version"] = float(run.version)
        return metrics

    def _evaluate(self, run: Run) -> Iterator[tuple[str, Evaluation]]:
        """Evaluates the current policy on each held-out source; figures by source name."""
        for name, problems in run.held_out.by_source.items():
            title, parts = f"evaluating {name}", (run.engine, run.scorer)
            yield name, evaluate(*parts, problems, self.config, self.accelerator, self.console, title, step=run.step)

    @contextlib.contextmanager
    def _open(self) -> Iterator[Run]:
        """The run, resumed where it last stopped, with all its parts; they are closed in reverse order."""
        cfg = self.config
        train, held_out = self._problems()
        saved = SavedRun(self.folder, cfg, self.accelerator, self.fingerprint)
        state, checkpoint = saved.newest()
        (self.folder / PREEMPTED).unlink(missing_ok=True)
        difficulty = self._difficulty()  # reads the policy before a checkpoint is loaded into it
        learner = self._learner(checkpoint)
        rollout = saved.restore(learner, state, checkpoint)
        with (
            self.interrupt,
            learner_threads(cfg, self.accelerator.device, cores()),
            contextlib.closing(self._engine(learner)) as engine,
            self._scorer() as scorer,
        ):
            engine.sync(state.version)
            if difficulty is not None:
                self._filter(difficulty, train, engine, scorer, begun=checkpoint is not None)
            with (
                self.console.progress("training", total=cfg.grpo.steps, done=state.step) as progress,
                contextlib.closing(self._tracker(state.step if checkpoint else None)) as tracker,
            ):
                yield Run(
                    experience=self._experience(train, engine, scorer),
                    learner=learner,
                    engine=engine,
                    scorer=scorer,
                    tracker=tracker,
                    progress=progress,
                    saved=saved,
                    held_out=held_out,
                    step=state.step,
                    version=state.version,
                    rollout=rollout,
                    metrics=dict(*figures(self.folder / "metrics.jsonl", state.step)[-1:]),
                    opening={name: float(n) for name, n in train.metrics().items()} if checkpoint is None else {},
                )

    def _engine(self, learner: Learner) -> Engine:
        policy = learner.backend.sampler() if samples_in_process(self.config) else self.policy
        return build_engine(self.config, policy)

    def _learner(self, checkpoint: Path | None) -> Learner:
        cfg = self.config
        return Learner(
            self.policy,
            cfg.grpo,
            self.accelerator,
            dtype=cfg.model.dtype,
            fp32_head=cfg.model.cast_lm_head_to_fp32,
            temperature=cfg.rollout.temperature,
            max_length=cfg.rollout.max_new_tokens,
            total_updates=derive(cfg).total_updates,
            seed=cfg.seed,
            resume=checkpoint,
            interrupt=self.interrupt,
        )

    def _difficulty(self) -> Difficulty | None:
        if self.config.data.difficulty is None:
            return None
        return Difficulty(self.config, self.folder, self.policy, self.accelerator, self.console, self.interrupt)

    def _filter(self, difficulty: Difficulty, train: ProblemSets, engine: Engine, scorer: Scorer, begun: bool) -> None:
        try:
            difficulty.filter(train, engine, scorer, begun)
        except Interrupted:
            self._mark_preempted()
            raise self.interrupt.ended(
                f"stopped while measuring difficulty; what was measured is in {difficulty.path}"
            ) from None

    def _scorer(self) -> Scorer:
        rewards, applies = training_rewards(self.config), training_applies(self.config)
        for name in idle(rewards, applies) if self.accelerator.is_main_process else ():
            log.warning(f"the reward {name} never runs: no source lists it under its rewards")
        return Scorer(rewards, self.config.scoring, applies=applies)

    def _tracker(self, resume_step: int | None) -> Tracker:
        cfg = self.config
        return build_tracker(
            cfg.tracking,
            self.folder,
            f"{cfg.name}/{self.folder.name}",
            cfg.model_dump(mode="json"),
            resume_step=resume_step,
            is_main=self.accelerator.is_main_process,
        )

    def _problems(self) -> tuple[ProblemSets, ProblemSets]:
        data = self.config.data
        train = load_problems(data.train, data.prompt, self.policy.tokenizer)
        evaluated = load_problems(data.eval, data.prompt, self.policy.tokenizer).renamed(held_out)
        check_prompts(train.problems, self.config.rollout.max_new_tokens, self.policy.model)
        if self.config.grpo.eval_every:
            check_lengths(evaluated.problems, self.config, self.policy.model)
        return ensure_disjoint(train, evaluated, data.on_overlap, read_questions(data.held_out)), evaluated

    def _experience(self, train: ProblemSets, engine: Engine, scorer: Scorer) -> Experience:
        cfg = self.config
        weights = {name: source.weight for name, source in cfg.data.train.items()}
        dynamic = cfg.rollout.dynamic_sampling
        oversample = dynamic.oversample if cfg.grpo.dynamic_sampling else 1.0
        prompts = StepPrompts(
            PromptStream(train.by_source, weights, cfg.seed), cfg.rollout.prompts_per_step, oversample
        )
        rollouts = Rollouts(engine, self.params, cfg.rollout.group_size, cfg.seed)
        parts = (prompts, rollouts, scorer, self.accelerator, self.interrupt)
        plain = PlainExperience(*parts)
        if cfg.rollout.max_staleness:
            plain = AheadExperience(
                *parts, staleness=cfg.rollout.max_staleness, steps=cfg.grpo.steps, deadline_s=cfg.grpo.deadline_s
            )
        if not cfg.grpo.dynamic_sampling:
            return plain
        return DynamicExperience(plain, dynamic, dynamic.reward or cfg.evaluate.reward)

    @contextlib.contextmanager
    def _claimed(self) -> Iterator[None]:
        """Hold the folder, or refuse it on every process."""
        with contextlib.ExitStack() as held:
            with failing_together(R1Error):
                if self.accelerator.is_main_process:
                    self._claim(held)
            self.fingerprint = from_main(self.fingerprint)
            yield

    def _claim(self, held: contextlib.ExitStack) -> None:
        """Take the folder for as long as ``held`` lasts."""
        identity = Identity.of("grpo", self.config)
        claim(self.folder)
        held.enter_context(alone_in(self.folder))
        self.fingerprint, aside = take(self.folder, identity, self.overwrite, self.fingerprint)
        if aside is not None:
            held.close()  # the old one moved with the renamed folder
            held.enter_context(alone_in(self.folder))
            log.info(f"{self.folder} held other work, which is now in {aside}")

    @contextlib.contextmanager
    def _explaining(self, run: Run) -> Iterator[None]:
        """Converts what torch reports of lost processes and of memory to TrainingError, which says what to change."""
        cfg, backend = self.config, run.learner.backend
        try:
            yield
        except RuntimeError as error:
            explained = lost_peers(error, backend.rank, backend.ranks, f"in step {run.step + 1}") or out_of_memory(
                error, run.longest, cfg.grpo.tokens_per_microbatch, cfg.model.gradient_checkpointing
            )
            if explained is None:
                raise
            raise explained from error

    def _leave(self, run: Run) -> NoReturn:
        """Save a checkpoint of the current state and end the run."""
        saved = run.save()
        what = "with its rollout, " if run.rollout is not None else ""
        self._mark_preempted()
        raise self.interrupt.ended(f"asked to end: step {run.step} is saved {what}in {saved.parent}")

    def _mark_preempted(self) -> None:
        if self.accelerator.is_main_process:
            self.interrupt.leave_mark(self.folder)
        self.accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has left


def due(step: int, every: int) -> bool:
    """Whether something is due after ``step``; 0 is never."""
    return every > 0 and step % every == 0


def score(metrics: Metrics) -> float | None:
    """Mean held-out pass@1 of a step that evaluated."""
    values = [value for name, value in metrics.items() if name.startswith("eval/") and name.endswith("/pass@1")]
    return sum(values) / len(values) if values else None
