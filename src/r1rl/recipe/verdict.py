"""Decides what happens to the work in a stage's folder, in the same way for a run, its plan and its status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from r1rl.config.kinds import kind_of
from r1rl.errors import R1Error
from r1rl.files import is_own
from r1rl.fingerprint import mark
from r1rl.fingerprint.identity import Change, Identity
from r1rl.fingerprint.keys import Effect
from r1rl.recipe import record
from r1rl.recipe.graph import Node, borrowed, resolved
from r1rl.recipe.record import Done

_GONE = "missing, and no checkpoint is left to rebuild it from"


class StageState(Enum):
    """State of a stage, given its configuration and its files."""

    DONE = "done"
    TO_DO = "to do"
    RESUME = "unfinished"
    """Resumes from its last checkpoint, or rebuilds missing outputs from it."""
    EXTEND = "resumes"
    """Resumes, because it is to go further than before."""
    SIFT = "to sift"
    """Draws nothing: the samples of a finished stage pass through other filters."""
    REDO = "changed"
    """Set aside and redone from its start."""
    WAIT = "waits"
    """Redone if a stage that it builds on comes out differently."""


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The verdict on one stage."""

    state: StageState
    identity: Identity
    done: Done | None = None
    """Its record, where the state is done."""
    changes: tuple[Change, ...] = ()
    """Because of which it resumes or is redone."""
    because: tuple[str, ...] = ()
    """Stages that it builds on and that will come out differently."""
    work: bool = False
    """Whether its folder holds anything that would have to be redone."""
    progress: str = ""
    """How far that work got."""
    altered: tuple[Path, ...] = ()
    """Outputs that were modified since the stage finished."""

    @property
    def asks(self) -> bool:
        """Whether hours of work may be set aside, so that a person must agree."""
        lost = self.state is StageState.REDO or (self.state is StageState.WAIT and bool(self.because))
        return lost and self.work and not kind_of(self.identity.kind).quick

    def why(self) -> str:
        """The reasons in words; empty where there are none."""
        reasons = [mark.listed(list(self.changes))] if self.changes else []
        if self.because:
            reasons.append(f"builds on {', '.join(self.because)}")
        kept = f" ({self.progress})" if self.progress and self.state is not StageState.DONE else ""
        return "; ".join(reasons) + kept if reasons else ""


def judge(run: Path, node: Node, done: Mapping[str, Done]) -> StageVerdict:
    """The verdict on a stage of which every input is done."""
    view = resolved(node, {name: done[name].paths(run) for name in node.inputs})
    return _judge(run, node, Identity.of(node.kind, view), frozenset())


def forecast(nodes: Mapping[str, Node], run: Path) -> dict[str, StageVerdict]:
    """The verdict on every stage as far as it can be known before any of them runs."""
    found: dict[str, StageVerdict] = {}
    for name, node in nodes.items():
        pending = [each for each in node.inputs if found[each].state is not StageState.DONE]
        outputs = {each: _outputs(run, nodes[each], found[each]) for each in node.inputs}
        identity = Identity.of(node.kind, resolved(node, outputs))
        verdict = _judge(run, node, identity, borrowed(node, pending))
        if pending and verdict.state is not StageState.TO_DO:
            state = StageState.REDO if verdict.state is StageState.REDO else StageState.WAIT
            verdict = replace(verdict, state=state, because=tuple(each for each in pending if _differs(found[each])))
        found[name] = verdict
    return found


def agree(verdicts: Mapping[str, StageVerdict], yes: bool, ask: bool) -> set[str]:
    """Ask a person to agree that stages are redone; returns the stages that may be.

    Args:
        yes: agreed beforehand, by ``--yes``.
        ask: whether there is a person at a terminal.

    Raises: R1Error where nobody agreed; nothing was touched.
    """
    asked = {name: verdict for name, verdict in verdicts.items() if verdict.asks}
    if not asked or yes:
        return set(asked)
    lines = [f"stage {name}: {verdict.why()}" for name, verdict in asked.items()]
    if not ask:
        raise R1Error(
            f"finished or saved work would be redone from its start: {' | '.join(lines)}. Nothing was touched: pass "
            "--yes to set the earlier outputs aside and redo it, undo the change, or choose another name"
        )
    print("These stages would be redone from their start; their earlier outputs are kept:")
    print("\n".join(f"  {line}" for line in lines))
    if input("Redo them? [y/N] ").strip().lower() not in ("y", "yes"):
        raise R1Error("nothing was touched; undo the change, or choose another name")
    return set(asked)


def _judge(run: Path, node: Node, identity: Identity, unknown: frozenset[str] | set[str]) -> StageVerdict:
    """``unknown``: keys whose contents are not known yet, so that their changes are ignored."""
    folder = run / node.name
    work, progress = mark.has_work(folder), mark.progress(folder)
    began, done = mark.read(folder), record.read(folder)

    def verdict(state: StageState, changes: list[Change] | None = None, altered: tuple[Path, ...] = ()) -> StageVerdict:
        known = done if state is StageState.DONE else None
        return StageVerdict(state, identity, known, tuple(changes or ()), (), work, progress, altered)

    if done is not None:
        since = _known(identity.changes(done.identity), unknown)
        if not any(map(_counts, since)):
            altered, missing = done.altered(run), done.missing(run)
            if not altered and not missing:
                return verdict(StageState.DONE, since)
            if mark.has_checkpoints(folder) or (node.row.quick and not altered):
                return verdict(StageState.RESUME, altered=tuple(altered))
            spoilt = [*_spoilt(altered, "not as it left it"), *_spoilt(missing, _GONE)]
            return verdict(StageState.REDO, spoilt)
    if began is None:
        foreign = not (folder / mark.MARK).exists() and not is_own(folder)  # refused when the stage claims it
        return verdict(StageState.REDO, [mark.UNKNOWN]) if work and not foreign else verdict(StageState.TO_DO)
    changes = _known(began.changes(identity), unknown)
    further = any(change.grew for change in changes if change.effect is Effect.EXTENDS)
    ended = done is not None and not mark.has_checkpoints(folder)
    if mark.redone(changes) or (ended and (further or _sifts(changes))):
        return verdict(StageState.REDO, mark.redone(changes) or changes)
    edited = tuple(done.altered(run)) if done is not None else ()
    if further and work:
        return verdict(StageState.EXTEND, changes, edited)
    if done is not None and _sifts(changes):
        return verdict(StageState.SIFT, changes, edited)
    return verdict(StageState.RESUME, changes)


def _sifts(changes: Iterable[Change]) -> bool:
    return any(change.effect is Effect.SIFTS for change in changes)


def _spoilt(outputs: list[Path], how: str) -> list[Change]:
    return [Change("", f"its {path.name} is {how}", Effect.LEARNED) for path in outputs]


def _known(changes: list[Change], unknown: frozenset[str] | set[str]) -> list[Change]:
    return [each for each in changes if not any(f"{key}.".startswith(f"{each.key}.") for key in unknown)]


def _counts(change: Change) -> bool:
    """Whether a finished stage is out of date: it learned from or kept something else, or is to go further."""
    return change.effect in (Effect.LEARNED, Effect.SIFTS) or change.grew


def _outputs(run: Path, node: Node, verdict: StageVerdict) -> dict[str, Path]:
    """The outputs that a stage made or will make; for one that is not done, placeholder paths."""
    if verdict.done is not None:
        return verdict.done.paths(run)
    folder = run / node.name
    return {"model": (folder / "model").absolute(), "data": (folder / "data.jsonl").absolute()}


def _differs(verdict: StageVerdict) -> bool:
    changed = verdict.state in (StageState.REDO, StageState.EXTEND) or _sifts(verdict.changes)
    return changed or bool(verdict.because)
