"""Run the stages of a configuration in order; what is done and unchanged is not done again."""

from __future__ import annotations

import contextlib
import logging
import os
import pkgutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import torch
from accelerate import Accelerator
from transformers.utils import logging as transformers_logging

from r1rl.config import RunConfig, dump_config, final_stage
from r1rl.config.kinds import kind_of
from r1rl.config.paths import launch_file, launch_names
from r1rl.distributed.collectives import from_main, gather
from r1rl.distributed.cores import choose_threads, cores
from r1rl.distributed.interrupt import PREEMPTED, Interrupt, Interrupted
from r1rl.distributed.processes import placed
from r1rl.distributed.processes import start as start_processes
from r1rl.errors import ConfigError, ForeignError, R1Error, naming_the_disk
from r1rl.files import alone_in, claim, clear, write_json
from r1rl.fingerprint import mark
from r1rl.recipe import attempt, record
from r1rl.recipe.compute import measured
from r1rl.recipe.graph import Node, dependents, graph, resolved
from r1rl.recipe.launch import launch_stage
from r1rl.recipe.preflight import preflight
from r1rl.recipe.push import push_final
from r1rl.recipe.record import Done
from r1rl.recipe.summary import summarize
from r1rl.recipe.verdict import StageState, StageVerdict, agree, forecast, judge
from r1rl.report import write_report
from r1rl.stages.base import StageContext, StageEntry, StageResult
from r1rl.tracking.console import Console
from r1rl.tracking.messages import show_messages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which stages of the plan a run is about; nothing given means all of them."""

    until: str | None = None
    """The last one to run."""
    start: str | None = None
    """Run it and whatever builds on it again, done or not; what it builds on must be done."""
    only: str | None = None
    """Run it alone; what it builds on must be done."""

    def check(self, nodes: dict[str, Node]) -> None:
        """Raises ConfigError for a stage that the plan does not have and for a missing launch configuration."""
        for name in (self.until, self.start, self.only):
            if name is not None and name not in nodes:
                raise ConfigError(f"no stage is called {name}; the run has {', '.join(nodes)}")
        for node in nodes.values():
            if node.launch is not None and launch_file(node.launch) is None:
                raise ConfigError(
                    f"stage {node.name}: there is no launch file {node.launch} (looked from the configuration's folder "
                    f"and from {Path.cwd()}); r1rl brings {', '.join(launch_names())}"
                )

    def again(self, nodes: dict[str, Node]) -> set[str]:
        """Stages that run even if they are done."""
        return dependents(nodes, self.start) if self.start else set()

    def wanted(self, nodes: dict[str, Node]) -> list[str]:
        """Stages that may run, in order."""
        if self.only:
            return [self.only]
        names = list(nodes)
        first = names.index(self.start) if self.start else 0
        last = names.index(self.until) if self.until else len(names) - 1
        return names[first : last + 1]


def run_recipe(
    config: RunConfig,
    until: str | None = None,
    *,
    start: str | None = None,
    only: str | None = None,
    yes: bool = False,
    launched: bool = False,
) -> Path:
    """Run every stage, or those that are chosen (see :class:`Selection`); returns the run folder.

    Args:
        yes: redo stages whose settings, files or code changed, without asking. Their earlier folders are kept.
        launched: this is a process that ``accelerate launch`` started for one stage of another process's run.

    Raises:
        R1Error: any stage's own, another process is at work in the same folder, or nobody agreed that finished or
            saved work is redone.
    """
    selection = Selection(until, start, only)
    nodes = graph(config)
    selection.check(nodes)
    threads = choose_threads(config.threads, os.environ, torch.get_num_threads(), cores())
    torch.set_num_threads(threads.count)
    rank, _ = placed(os.environ)
    console = Console(quiet=not config.tracking.console or rank > 0)
    show_messages(console, rank)
    accelerator = start_processes(config.device, config.grpo.deadline_s)
    transformers_logging.disable_progress_bar()
    folder = Path(config.output_dir) / config.name
    if accelerator.is_main_process:
        _claim_run(folder)
    log.info(f"CPU threads: {threads.count} ({threads.why})")
    accelerator.wait_for_everyone()
    owner = accelerator.is_main_process and not launched
    with naming_the_disk(folder), alone_in(folder) if owner else contextlib.nullcontext():
        agreed, again = set[str](), selection.again(nodes)
        if owner:
            preflight(nodes[name] for name in selection.wanted(nodes))
            agreed = _agreed(nodes, folder, selection, yes)
            dump_config(_anywhere(config), folder / "config.yaml")
            again -= attempt.begun(folder, start)
        accelerator.wait_for_everyone()
        recipe = _Recipe(nodes, folder, accelerator, console, launched, yes, agreed, again)
        with recipe.interrupt:
            done = recipe.run(selection)
        if owner:
            attempt.end(folder)
            write_json(folder / "results.json", {name: each.metrics for name, each in done.items()})
            summarize(folder, nodes, console)
            final = final_stage(config)
            if config.hub is not None and final in selection.wanted(nodes):
                push_final(config.hub, final, done, folder)
    return folder


def _agreed(nodes: dict[str, Node], folder: Path, selection: Selection, yes: bool) -> set[str]:
    """Stages that may be set aside and redone; asks for all of them before the first one starts."""
    again, wanted = selection.again(nodes), selection.wanted(nodes)
    verdicts = forecast(nodes, folder)
    return agree({n: verdicts[n] for n in wanted if n not in again}, yes, _at_terminal()) | again


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


T = TypeVar("T")


@dataclass(slots=True)
class _Recipe:
    nodes: dict[str, Node]
    folder: Path
    accelerator: Accelerator
    console: Console
    launched: bool
    yes: bool
    agreed: set[str]
    again: set[str]
    """Stages that run even if they are done; the main process knows which of them an earlier run began anew."""
    interrupt: Interrupt = field(default_factory=Interrupt)

    def run(self, selection: Selection) -> dict[str, Done]:
        """Returns the record of every stage that is done in the end."""
        again, wanted = self._shared(self.again), selection.wanted(self.nodes)
        done: dict[str, Done] = {}
        for name, node in self.nodes.items():
            if name in wanted:
                done[name] = self._stage(node, done, selection, again=name in again)
            elif all(each in done for each in node.inputs):
                there = self._verdict(node, done)
                if there.done is not None:
                    done[name] = there.done
            if self.accelerator.is_main_process and name in wanted:
                write_json(self.folder / "results.json", {n: each.metrics for n, each in done.items()})
                if not self.launched:
                    _renew_report(self.folder)
        return done

    def _stage(self, node: Node, done: dict[str, Done], selection: Selection, again: bool) -> Done:
        missing = [name for name in node.inputs if name not in done]
        if missing:
            raise ConfigError(
                f"stage {node.name} builds on {', '.join(missing)}, not done yet; run without --from/--only"
            )
        verdict = self._verdict(node, done)
        if verdict.done is not None and not again:
            less = f", asked for less than it has: {verdict.why()}" if verdict.changes else ", unchanged"
            log.info(f"{node.name}: done already{less}")
            return verdict.done
        self._end_if_asked(node)
        if self.accelerator.is_main_process and not self.launched:
            self._prepare(node, verdict, again)
            if again and selection.start:
                attempt.note(self.folder, selection.start, node.name)
        self.accelerator.wait_for_everyone()
        log.info(f"{node.name}: {node.kind}")
        if node.launch is not None and not self.launched:
            return self._launch(node, done)
        began = time.monotonic()
        view = resolved(node, {name: done[name].paths(self.folder) for name in node.inputs})
        folder = self.folder / node.name
        context = StageContext(node.name, view, folder, self.accelerator, self.console, self.interrupt)
        result = _call(node.kind, context)
        self.accelerator.wait_for_everyone()
        return self._finish(node, view, verdict, result, time.monotonic() - began)

    def _finish(self, node: Node, view: RunConfig, verdict: StageVerdict, result: StageResult, seconds: float) -> Done:
        """Note what the stage left; what it could have gone on from is needed until then."""
        finished = None
        if self.accelerator.is_main_process:
            model = result.model or Path(view.model.path)
            work = measured(node.kind, self.folder / node.name, model, result.metrics)
            metrics = result.metrics | (work.metrics() if work else {})
            finished = Done.of(self.folder, verdict.identity, result.outputs, metrics, seconds)
            record.write(self.folder / node.name, finished)
            if result.spent is not None:
                _clear(result.spent)
        return cast(Done, self._shared(finished))

    def _verdict(self, node: Node, done: dict[str, Done]) -> StageVerdict:
        """On a stage of which every input is done; the main process reads the files."""
        found = judge(self.folder, node, done) if self.accelerator.is_main_process else None
        return cast(StageVerdict, self._shared(found))

    def _shared(self, value: T) -> T:
        """The main process's value, on every process."""
        self.accelerator.wait_for_everyone()
        return from_main(value)

    def _prepare(self, node: Node, verdict: StageVerdict, again: bool) -> None:
        """Keep what something else left in the stage's folder; unfinished work of this one stays in place."""
        folder, began = self.folder / node.name, mark.read(self.folder / node.name)
        if verdict.state is StageState.REDO and node.name not in self.agreed:
            agree({node.name: verdict}, self.yes, _at_terminal())
        redo = verdict.state is StageState.REDO
        own = began is not None or (folder / mark.RECORD).is_file()  # or writing the mark refuses it
        if folder.exists() and (redo or (again and own and mark.has_work(folder))):
            aside, began = mark.set_aside(folder), None
            why = verdict.why() if redo else "it is run again"
            log.info(f"{node.name}: {why}; the earlier outputs are kept in {aside}")
        elif verdict.changes:
            log.info(f"{node.name}: goes on from where it is: {verdict.why()}{_schedule(node)}")
        for path in verdict.altered if not redo else ():
            if path.exists() and path.is_relative_to(folder.absolute()):
                log.info(f"{node.name}: {path.name} is not what it left; kept as {mark.set_aside(path)}")
        mark.write(folder, verdict.identity, began.fingerprint if began else verdict.identity.fingerprint)

    def _end_if_asked(self, node: Node) -> None:
        if self.interrupt.requested_anywhere(gather):
            if self.accelerator.is_main_process:
                self.interrupt.leave_mark(self.folder / node.name)
            raise self.interrupt.ended(f"asked to end before stage {node.name}; what is done is kept")

    def _launch(self, node: Node, done: dict[str, Done]) -> Done:
        """Run the stage in processes of its own and read what they left."""
        if self.accelerator.num_processes > 1:
            raise ConfigError(
                f"stage {node.name} has its own launch configuration, so start the run with plain `r1rl run`, "
                "not under accelerate launch"
            )
        launch = launch_file(node.launch) if node.launch else None
        assert launch is not None  # checked before the first stage
        launch_stage(str(launch), self.folder / "config.yaml", node.name)
        finished = judge(self.folder, node, done).done
        if finished is None:
            raise R1Error(f"stage {node.name} ended without its outputs; see the messages of its processes above")
        return finished


def _anywhere(config: RunConfig) -> RunConfig:
    """The configuration that means the same run in every current folder."""
    return config.model_copy(update={"output_dir": str(Path(config.output_dir).absolute())})


def _claim_run(folder: Path) -> None:
    """Raises ForeignError for a folder that holds something else than a run."""
    lock = folder / ".lock"
    if lock.is_file() and lock.read_text().strip().isdigit():
        return  # a run of a version that did not mark its folders
    try:
        claim(folder)
    except ForeignError as error:
        raise ForeignError(f"{error}: the run folder is output_dir/name, change one of them") from error


def _schedule(node: Node) -> str:
    """What more steps do to a learning rate that falls over all of them."""
    section = getattr(node.view, node.row.section)
    falls = getattr(section, "lr_scheduler_type", "linear") != "constant"
    return "; the learning rates still to come are those of the new length" if falls else ""


def _renew_report(folder: Path) -> None:
    """Write RUN/report.html anew. It only shows what the other files hold: without it the run goes on, and says so."""
    try:
        write_report(folder)
    except (R1Error, OSError) as error:
        log.warning(f"the report could not be written: {error}; try later: r1rl report {folder}")


def _clear(place: Path) -> None:
    """Remove what a stage no longer needs. Whatever prevents it, the stage is done."""
    try:
        clear(place)
    except (R1Error, OSError) as error:
        log.warning(f"{place} is no longer needed and could not be removed: {error}")


def _call(kind: str, ctx: StageContext) -> StageResult:
    """Run a stage. Raises Preempted where it was asked to end, with its mark left."""
    row = kind_of(kind)
    stage: StageEntry = pkgutil.resolve_name(row.entry)
    if ctx.accelerator.is_main_process:
        (ctx.folder / PREEMPTED).unlink(missing_ok=True)
    alone = row.alone and ctx.accelerator.num_processes > 1
    result: StageResult | Interrupted | None = None
    if not alone or ctx.accelerator.is_main_process:
        try:
            result = stage(ctx)
        except Interrupted as stopped:
            result = stopped
    result = from_main(result) if alone else result
    if isinstance(result, Interrupted):
        if ctx.accelerator.is_main_process:
            ctx.interrupt.leave_mark(ctx.folder)
        ctx.accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has left
        raise ctx.interrupt.ended(f"stage {ctx.name} was asked to end: {result}")
    return cast(StageResult, result)
