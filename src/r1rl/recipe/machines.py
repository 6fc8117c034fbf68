"""Keeps the ``r1rl run`` commands of several machines in step.

The machine of rank 0 leads: it takes the run folder, decides what runs next and records the results. The others follow:
for each stage that has processes of its own, they start their share of them. All of them meet in a key-value store at
the leader; the run folder is on a file system that they share.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from r1rl.distributed.interrupt import Interrupt, Preempted, stopped
from r1rl.errors import ConfigError, TrainingError
from r1rl.recipe.layout import LaunchFile, Machines, StageLayout

log = logging.getLogger(__name__)

JOIN_S = 600.0
"""Longest wait for the other machines, at the start and before each stage; torch's launchers wait as long."""
ANSWER_S = 60.0
"""Longest wait for the store's answer to one request."""
_POLL_S = 0.2
_END, _STOP, _FAILURE = "end", "stop", "failure"


@dataclass(frozen=True, slots=True)
class Order:
    """What every machine starts next."""

    stage: str
    launch: str
    """Its launch file; by name where it comes with r1rl."""
    config: str
    """The run's resolved configuration."""
    digest: str
    """Of that file's content."""
    processes: int
    """On each machine."""
    port: int
    """Free port of the leader at which the launchers of this stage meet."""

    @classmethod
    def of(cls, config: Path, stage: str, at: StageLayout) -> Order:
        assert at.launch is not None  # a stage without one runs on the leader alone
        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        launch = at.launch.path.stem if at.launch.shipped else str(at.launch.path)
        return cls(stage, launch, str(config.absolute()), _digest(config), at.processes, port)

    def layout(self, machines: int) -> StageLayout:
        """The same on a machine that follows. Raises ConfigError where it has no such launch file."""
        return StageLayout(machines, self.processes, LaunchFile.find(self.launch))


class Meeting:
    """This machine's connection to the others.

    Raises:
        TrainingError: they did not all come within ``join_s``.
    """

    def __init__(self, machines: Machines, join_s: float = JOIN_S) -> None:
        self.machines, self.join_s = machines, join_s
        self._round = 0
        leads, where = machines.rank == 0, f"{machines.address}:{machines.port}"
        log.info(f"machine {machines.rank} of {machines.count}: meeting the others at {where}")
        try:
            self._store = TCPStore(
                machines.address, machines.port, None, leads, timedelta(seconds=join_s), wait_for_workers=False
            )
        except (DistError, RuntimeError) as error:
            doing = "cannot listen there" if leads else f"the machine of rank 0 did not answer within {join_s:g} s"
            raise TrainingError(f"{where}: {doing} (--main-process-ip, --main-process-port): {error}") from error
        self._store.set_timeout(timedelta(seconds=ANSWER_S))

    @property
    def others(self) -> range:
        """Ranks of the machines that follow."""
        return range(1, self.machines.count)

    # ------------------------------------------------------------------------------------------------- the leader

    def gather(self, interrupt: Interrupt) -> None:
        """Wait for all machines to be there. Raises TrainingError; Preempted if a stop was requested."""
        self._await("there", interrupt)

    def announce(self, order: Order, interrupt: Interrupt) -> None:
        """Tell the others to start a stage, and wait until each is about to.

        Raises:
            TrainingError: one of them cannot, or is gone.
            Preempted: this machine or another one was asked to end.
        """
        self._round += 1
        self._store.set(f"order/{self._round}", json.dumps(asdict(order)))
        self._await(f"ready/{self._round}", interrupt)

    def end(self, error: BaseException | None) -> None:
        """Tell the others that the run is over, and how it ended; waits for a moment until they know."""
        kind = "" if error is None else _STOP if _was_asked(error) else _FAILURE
        how = {_END: kind, "what": str(error or "")}
        with contextlib.suppress(DistError, RuntimeError):  # those that are gone need not be told
            self._store.set(f"order/{self._round + 1}", json.dumps(how))
            self._store.wait([f"gone/{rank}" for rank in self.others], timedelta(seconds=5))

    def _await(self, key: str, interrupt: Interrupt) -> None:
        until, missing = time.monotonic() + self.join_s, set(self.others)
        while missing:
            if interrupt.requested:
                raise interrupt.ended("asked to end while waiting for the other machines; finished stages are kept")
            for rank in list(missing):
                if self._store.check([f"gone/{rank}"]):
                    why = self._store.get(f"gone/{rank}").decode()
                    if not why:
                        raise stopped(None, f"machine {rank} was asked to end; finished stages are kept")
                    raise TrainingError(f"machine {rank}: {why}")
                if self._store.check([f"{key}/{rank}"]):
                    missing.discard(rank)
            if time.monotonic() > until:
                who = ", ".join(map(str, sorted(missing)))
                raise TrainingError(
                    f"no sign of machine {who} of {self.machines.count} within {self.join_s:g} s: start the same "
                    f"r1rl run there with --num-machines {self.machines.count} --machine-rank {who} "
                    f"--main-process-ip {self.machines.address} --main-process-port {self.machines.port}"
                )
            time.sleep(_POLL_S)

    # ---------------------------------------------------------------------------------------------- those that follow

    def orders(self, interrupt: Interrupt) -> Iterator[Order]:
        """The leader's orders, until the run is over.

        Raises:
            Preempted: this machine or the leader was asked to end.
            TrainingError: the leader is gone, or ended with an error.
        """
        self._store.set(f"there/{self.machines.rank}", "")
        while True:
            self._round += 1
            order = self._next(interrupt)
            if order is None:
                return
            yield order

    def ready(self) -> None:
        """Tell the leader that this machine starts what was ordered last."""
        self._store.set(f"ready/{self._round}/{self.machines.rank}", "")

    def leave(self, error: BaseException | None) -> None:
        """Tell the leader that this machine ends, and why; an empty text if it was asked to, or the run is over."""
        why = "" if error is None or _was_asked(error) else str(error) or type(error).__name__
        with contextlib.suppress(DistError, RuntimeError):  # the leader may have ended
            self._store.set(f"gone/{self.machines.rank}", why)

    def _next(self, interrupt: Interrupt) -> Order | None:
        key = f"order/{self._round}"
        try:
            while not self._store.check([key]):
                if interrupt.requested:
                    raise interrupt.ended("this machine was asked to end")
                time.sleep(_POLL_S)
            told = json.loads(self._store.get(key))
        except (DistError, RuntimeError) as error:
            raise TrainingError(
                f"the machine of rank 0 ({self.machines.address}) ended unexpectedly, or cannot be reached: {error}"
            ) from error
        if _END not in told:
            return Order(**told)
        if told[_END] == _STOP:
            raise stopped(None, "the run was asked to end on the machine of rank 0")
        if told[_END]:
            raise TrainingError(f"the run failed on the machine of rank 0: {told['what']}")
        return None


def _was_asked(error: BaseException) -> bool:
    """Whether a machine ends because somebody asked it to."""
    return isinstance(error, Preempted | KeyboardInterrupt)


def check_order(order: Order, gpus: int, wait_s: float = ANSWER_S) -> Path:
    """The configuration that an order names, once it is visible here.

    Args:
        gpus: visible GPUs of this machine; 0 on a CPU.
        wait_s: longest wait for a network file system to show the file.

    Raises:
        ConfigError: this machine does not see it, or has fewer GPUs than the order wants.
    """
    config, until = Path(order.config), time.monotonic() + wait_s
    while not (config.is_file() and _digest(config) == order.digest):
        if time.monotonic() > until:
            raise ConfigError(
                f"{config} is not here, or not the same as on the machine of rank 0: output_dir has to be on a file "
                "system that all machines share, and at the same path"
            )
        time.sleep(_POLL_S)
    if gpus and gpus < order.processes:
        raise ConfigError(
            f"stage {order.stage} starts {order.processes} processes per machine, but {gpus} GPUs are visible here; "
            "all machines need as many as the first"
        )
    return config


def _digest(config: Path) -> str:
    return hashlib.sha256(config.read_bytes()).hexdigest()
