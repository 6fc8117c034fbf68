"""Run the stages of a configuration in order; finished, unchanged stages are skipped."""

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
from r1rl.distributed.collectives import from_main, gather
from r1rl.distributed.cores import choose_threads, cores
from r1rl.distributed.interrupt import PREEMPTED, Interrupt, Interrupted, Preempted
from r1rl.distributed.processes import naming_lost_peers, placed, visible_gpus
from r1rl.distributed.processes import start as start_processes
from r1rl.errors import ConfigError, ForeignError, R1Error, naming_the_disk
from r1rl.files import alone_in, claim, clear, write_json
from r1rl.fingerprint import mark
from r1rl.fingerprint.keys import Effect
from r1rl.recipe import record
from r1rl.recipe.compute import measured
from r1rl.recipe.finish import push_final, summarize
from r1rl.recipe.graph import Node, Selection, graph, resolved
from r1rl.recipe.launch import ALONE, follow, launch_stage, leading, let_signals_through
from r1rl.recipe.layout import Machines, StageLayout, layout
from r1rl.recipe.machines import Meeting, Order
from r1rl.recipe.preflight import preflight
from r1rl.recipe.record import Done
from r1rl.recipe.verdict import StageState, StageVerdict, agree, forecast, judge
from r1rl.report import write_report
from r1rl.rollout.build import decided
from r1rl.stages.base import StageContext, StageEntry, StageResult
from r1rl.tracking.console import Console
from r1rl.tracking.messages import show_messages

log = logging.getLogger(__name__)


def run_recipe(
    config: RunConfig,
    until: str | None = None,
    *,
    start: str | None = None,
    only: str | None = None,
    yes: bool = False,
    launched: bool = False,
    machines: Machines = ALONE,
) -> Path:
    """Run every stage, or those that are chosen (see :class:`Selection`); returns the run folder.

    Args:
        yes: redo stages whose settings, files or code changed, without asking. Their earlier folders are kept.
        launched: this is a process that ``accelerate launch`` started for one stage of another process's run.
        machines: all machines on which this is called for the same run; the first one takes the run folder, the others
            start their share of the processes of each stage.

    Raises:
        R1Error: any stage's own, another process works in the same folder, or nobody agreed to redo finished or saved
            work.
    """
    rank, _ = placed(os.environ)
    console = Console(quiet=not config.tracking.console or rank > 0)
    show_messages(console, rank)
    gpus = visible_gpus(config.device)
    config = decided(config, on_gpu=gpus > 0)
    selection, nodes = Selection(until, start, only), graph(config)
    selection.check(nodes)
    if machines.rank > 0:
        follow(machines, gpus)
        return Path(config.output_dir) / config.name
    if launched:
        let_signals_through()
    where = f"in stage {only}, outside its training steps" if only else "outside the training steps"
    with naming_lost_peers(*placed(os.environ), where):
        recipe = _start(config, nodes, selection, console, yes, launched)
        with naming_the_disk(recipe.folder), alone_in(recipe.folder) if recipe.owner else contextlib.nullcontext():
            recipe.place(gpus, machines)
            recipe.prepare(config)
            with recipe.interrupt, leading(machines, recipe.interrupt) as recipe.meeting:
                recipe.run()
            recipe.finish(config)
    return recipe.folder


def _start(
    config: RunConfig, nodes: dict[str, Node], selection: Selection, console: Console, yes: bool, launched: bool
) -> _Recipe:
    """Join the other processes, if there are any, and take the run's folder."""
    threads = choose_threads(config.threads, os.environ, torch.get_num_threads(), cores())
    torch.set_num_threads(threads.count)
    accelerator = start_processes(config.device, config.grpo.deadline_s)
    transformers_logging.disable_progress_bar()
    folder = Path(config.output_dir) / config.name
    if accelerator.is_main_process:
        _claim_run(folder)
    log.info(f"CPU threads: {threads.count} ({threads.why})")
    accelerator.wait_for_everyone()
    return _Recipe(nodes, selection, folder, accelerator, console, yes, launched)


T = TypeVar("T")


@dataclass(slots=True)
class _Recipe:
    nodes: dict[str, Node]
    selection: Selection
    folder: Path
    accelerator: Accelerator
    console: Console
    yes: bool
    launched: bool
    agreed: set[str] = field(default_factory=set)
    """Stages that may be set aside and redone."""
    again: set[str] = field(default_factory=set)
    """Stages that run even if they are done."""
    done: dict[str, Done] = field(default_factory=dict)
    """The record of every stage that is done by now."""
    interrupt: Interrupt = field(default_factory=Interrupt)
    machines: Machines = ALONE
    meeting: Meeting | None = None
    """Connection to the other machines."""
    layouts: dict[str, StageLayout] = field(default_factory=dict)
    """Where each wanted stage runs; empty where this process is one of several."""

    @property
    def owner(self) -> bool:
        """Whether this process asks, writes the run's own files, and prepares the stages' folders."""
        return self.accelerator.is_main_process and not self.launched

    def place(self, gpus: int, machines: Machines) -> None:
        """Decide where the stages run. Raises ConfigError where the machines do not suffice, or are not needed."""
        self.machines = machines
        if self.launched or self.accelerator.num_processes > 1:
            return
        wanted = self.selection.wanted(self.nodes)
        self.layouts = {name: layout(self.nodes[name], gpus, machines.count) for name in wanted}
        if machines.count > max(at.machines for at in self.layouts.values()):
            raise ConfigError(
                f"--num-machines {machines.count}: no stage that would run has a launch file, so one machine would do "
                "all the work; add --launch zero2, or set stages.NAME.launch"
            )

    def prepare(self, config: RunConfig) -> None:
        """Check what later stages will need, ask about all stages that would be redone, and write config.yaml."""
        self.again = self.selection.again(self.nodes)
        if self.owner:
            wanted = self.selection.wanted(self.nodes)
            preflight([self.nodes[name] for name in wanted])
            verdicts = forecast(self.nodes, self.folder)
            asked = {name: verdicts[name] for name in wanted if name not in self.again}
            self.agreed = agree(asked, self.yes, _at_terminal()) | self.again
            dump_config(_anywhere(config), self.folder / "config.yaml")
            self.again = self.again - record.restarted(self.folder, self.selection.start)
        self.again = self._shared(self.again)

    def run(self) -> None:
        """Run every wanted stage that is not done, in order; of the others, note which are done."""
        wanted = self.selection.wanted(self.nodes)
        for name, node in self.nodes.items():
            if name in wanted:
                self.done[name] = self._stage(node)
                self._publish()
            elif all(each in self.done for each in node.inputs):
                finished = self._verdict(node).done
                if finished is not None:
                    self.done[name] = finished

    def finish(self, config: RunConfig) -> None:
        """Write and show the run's results, and push its model."""
        if self.owner:
            record.end_attempt(self.folder)
            self._write_results()
            summarize(self.folder, self.nodes, self.console)
            final = final_stage(config)
            if config.hub is not None and final in self.selection.wanted(self.nodes):
                push_final(config.hub, final, self.done, self.folder)

    def _stage(self, node: Node) -> Done:
        """The record of a stage: from an earlier run, from its own processes, or from this process."""
        missing = [name for name in node.inputs if name not in self.done]
        if missing:
            raise ConfigError(
                f"stage {node.name} builds on {', '.join(missing)}, not done yet; run without --from/--only"
            )
        verdict, again = self._verdict(node), node.name in self.again
        if verdict.done is not None and not again:
            less = f", and has more than is requested: {verdict.why()}" if verdict.changes else ", unchanged"
            log.info(f"{node.name}: done already{less}")
            return verdict.done
        self._end_if_asked(node)
        if self.owner:
            self._make_room(node, verdict, again)
        self.accelerator.wait_for_everyone()
        at = self.layouts.get(node.name)
        log.info(f"{node.name}: {node.kind}" + (f", {at.summary()}" if at and node.launch else self._idle_gpus(node)))
        if node.launch is not None and not self.launched and (at is None or at.launch is not None):
            return self._launch(node)
        return self._run_here(node, verdict)

    def _idle_gpus(self, node: Node) -> str:
        """What to say of a stage that runs in this process while other GPUs have nothing to do."""
        gpus = visible_gpus(node.view.device)
        if gpus < 2 or self.accelerator.num_processes > 1 or kind_of(node.kind).alone:
            return ""
        return f", on one of {gpus} visible GPUs; with --launch zero2 it runs on all of them"

    def _run_here(self, node: Node, verdict: StageVerdict) -> Done:
        began = time.monotonic()
        view = resolved(node, {name: self.done[name].paths(self.folder) for name in node.inputs})
        folder = self.folder / node.name
        context = StageContext(node.name, view, folder, self.accelerator, self.console, self.interrupt)
        result = _call(node.kind, context)
        self.accelerator.wait_for_everyone()
        return self._finished(node, view, verdict, result, time.monotonic() - began)

    def _finished(
        self, node: Node, view: RunConfig, verdict: StageVerdict, result: StageResult, seconds: float
    ) -> Done:
        """Record the stage's outputs, then remove its checkpoints, which were needed until now."""
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

    def _verdict(self, node: Node) -> StageVerdict:
        """The verdict on a stage whose inputs are all done; the main process reads the files."""
        found = judge(self.folder, node, self.done) if self.accelerator.is_main_process else None
        return cast(StageVerdict, self._shared(found))

    def _shared(self, value: T) -> T:
        """The main process's value, on every process."""
        self.accelerator.wait_for_everyone()
        return from_main(value)

    def _make_room(self, node: Node, verdict: StageVerdict, again: bool) -> None:
        """Set aside other work in the stage's folder; unfinished work of this stage stays in place."""
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
            how = "filters its samples again" if verdict.state is StageState.SIFT else "resumes where it stopped"
            log.info(f"{node.name}: {how}: {verdict.why()}{_schedule(node, verdict)}")
        for path in verdict.altered if not redo else ():
            if path.exists() and path.is_relative_to(folder.absolute()):
                log.info(f"{node.name}: {path.name} is not as the stage left it; kept as {mark.set_aside(path)}")
        mark.write(folder, verdict.identity, began.fingerprint if began else verdict.identity.fingerprint)
        if again and self.selection.start:
            record.note_restarted(self.folder, self.selection.start, node.name)

    def _publish(self) -> None:
        """Write the results and the report so far; a report that fails is only a warning."""
        if self.accelerator.is_main_process:
            self._write_results()
        if self.owner:
            try:
                write_report(self.folder)
            except (R1Error, OSError) as error:
                log.warning(f"the report could not be written: {error}; try later: r1rl report {self.folder}")

    def _write_results(self) -> None:
        write_json(self.folder / "results.json", {name: each.metrics for name, each in self.done.items()})

    def _end_if_asked(self, node: Node) -> None:
        if self.interrupt.requested_anywhere(gather):
            if self.accelerator.is_main_process:
                self.interrupt.leave_mark(self.folder / node.name)
            raise self.interrupt.ended(f"asked to end before stage {node.name}; finished stages are kept")

    def _launch(self, node: Node) -> Done:
        """Run the stage in processes of its own and read what they left."""
        if self.accelerator.num_processes > 1:
            raise ConfigError(
                f"stage {node.name} has its own launch configuration, so start the run with plain `r1rl run`, "
                "not under accelerate launch"
            )
        at, config, port = self.layouts[node.name], self.folder / "config.yaml", 0
        if self.meeting is not None and at.machines > 1:
            port = self._announce(Order.of(config, node.name, at), self.meeting)
        launch_stage(at, config, node.name, self.machines, port)
        finished = judge(self.folder, node, self.done).done
        if finished is None:
            raise R1Error(f"stage {node.name} ended without its outputs; see its output above")
        return finished

    def _announce(self, order: Order, meeting: Meeting) -> int:
        """Have the other machines start their share of a stage; returns the port at which the launchers meet."""
        try:
            meeting.announce(order, self.interrupt)
        except Preempted:
            self.interrupt.leave_mark(self.folder / order.stage)
            raise
        return order.port


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _anywhere(config: RunConfig) -> RunConfig:
    """The configuration with an absolute run folder, so that it does not depend on the current folder."""
    return config.model_copy(update={"output_dir": str(Path(config.output_dir).absolute())})


def _claim_run(folder: Path) -> None:
    """Raises ForeignError for a folder that holds something other than a run."""
    lock = folder / ".lock"
    if lock.is_file() and lock.read_text().strip().isdigit():
        return  # a run of a version that did not mark its folders
    try:
        claim(folder)
    except ForeignError as error:
        raise ForeignError(f"{error}: the run folder is output_dir/name, change one of them") from error


def _schedule(node: Node, verdict: StageVerdict) -> str:
    """How more steps change a learning rate that decays over all of them."""
    if not any(change.effect is Effect.EXTENDS for change in verdict.changes):
        return ""
    section = getattr(node.view, node.row.section)
    falls = getattr(section, "lr_scheduler_type", "linear") != "constant"
    return "; the remaining learning rates follow the new length" if falls else ""


def _clear(place: Path) -> None:
    """Remove what a stage no longer needs; a failure is only a warning, as the stage is done."""
    try:
        clear(place)
    except (R1Error, OSError) as error:
        log.warning(f"{place} is no longer needed and could not be removed: {error}")


def _call(kind: str, ctx: StageContext) -> StageResult:
    """Run a stage. Raises Preempted where it was asked to end, and leaves its mark."""
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
