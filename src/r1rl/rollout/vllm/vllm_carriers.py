"""vLLM's own transports, written against its version 0.32: NCCL to servers, CUDA IPC to an engine process beside the
trainer. ``make test-vllm-gpu-api`` drives both sides of its code without a GPU; none of it has run on one yet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from operator import methodcaller
from typing import Any, Protocol

import torch
from torch import Tensor

from r1rl.errors import EngineError
from r1rl.rollout.vllm.carriers import WeightClient
from r1rl.rollout.vllm.network import address_towards, free_port
from r1rl.rollout.vllm.weights import Meta, PolicyWeights


class TrainerEngine(Protocol):
    """What is used of vLLM's ``TrainerWeightTransferEngine``."""

    client: Any

    def send_weights(self) -> None: ...

    def shutdown(self) -> None: ...


class Transport(Protocol):
    """Makes vLLM's trainer-side engine of one backend for the engines that take part."""

    backend: str
    sends: bool
    """Whether this rank sends weights; the other ranks only take part in gathering them."""

    def open(self, everyone: FanOut, source: Lockstep) -> TrainerEngine: ...


class VllmCarrier:
    """Sends through vLLM's own trainer-side engine.

    Its group is opened at the first delivery, and again when the engines change (a restarted server is another
    engine) or after a failed delivery, which leaves a group unusable.

    Args:
        deadline_s: longest delivery. After it the group is aborted, which makes calls that wait in it return.
    """

    replays = False

    def __init__(self, transport: Transport, source: PolicyWeights, deadline_s: float) -> None:
        self.transport, self.deadline_s = transport, deadline_s
        self.backend = transport.backend
        self.source = Lockstep(source)
        self._clients: list[WeightClient] = []
        self._engine: TrainerEngine | None = None

    def publish(self, version: int) -> None:
        """Gathering and sending overlap in :meth:`deliver`; only what the metadata may have to gather is done here."""
        self.source.metadata()

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        self.source.begin()
        try:
            if clients or not self.transport.sends:
                self._send(FanOut(clients, version))
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise  # the deadline of the whole phase, or Ctrl-C: do not start another collective
            self.source.complete()
            raise
        self.source.complete()

    def replay(self, client: WeightClient, version: int) -> None:
        raise EngineError(f"weights sent by {self.backend} reach a restarted server at the next sync only")

    def close(self) -> None:
        """Leave the group: vLLM aborts its communicator, so this never waits for members that are gone."""
        engine, self._engine, self._clients = self._engine, None, []
        if engine is not None:
            engine.shutdown()

    def _send(self, everyone: FanOut) -> None:
        if self._engine is None or everyone.clients != self._clients:
            self.close()
            self._engine, self._clients = self.transport.open(everyone, self.source), everyone.clients
        self._engine.client = everyone
        if not self.transport.sends:
            # It only gathers, for as long as the sending rank waits for servers; the deadline of the phase bounds it.
            self._engine.send_weights()
            return
        watch = _Watch(self._engine, everyone, self.deadline_s)
        watch.start()
        try:
            self._engine.send_weights()
        except Exception as error:
            if late := watch.late():
                raise late from error
            raise
        finally:
            everyone.ended.set()
            watch.join()
        if late := watch.late():
            raise late


class _Watch(threading.Thread):
    """Aborts a group whose delivery is late, or can never end because one of its members has failed."""

    def __init__(self, engine: TrainerEngine, everyone: FanOut, seconds: float) -> None:
        super().__init__(name="weights-watch", daemon=True)
        self.engine, self.everyone, self.seconds = engine, everyone, seconds
        self._late = False

    def run(self) -> None:
        self._late = not self.everyone.ended.wait(self.seconds)
        if self._late or self.everyone.failed:
            self.engine.shutdown()

    def late(self) -> EngineError | None:
        if not self._late:
            return None
        return EngineError(f"sending weights took more than {self.seconds:g} s (rollout.vllm.sync_timeout_s)")


class Lockstep:
    """A weight source whose passes are always completed: gathering is a collective, so a rank whose sending failed
    half-way still has to gather the rest with the others."""

    def __init__(self, source: PolicyWeights) -> None:
        self.source = source
        self._pass: Iterator[tuple[str, Tensor]] | None = None

    def begin(self) -> None:
        """A delivery begins: exactly one pass follows."""
        self._pass = None

    def complete(self) -> None:
        """Gather what the delivery has not."""
        for _ in self if self._pass is None else self._pass:
            pass

    def metadata(self) -> list[Meta]:
        return self.source.metadata()

    def held_names(self) -> None:
        """Every rank holds everything."""

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        self._pass = self._on_device()
        return self._pass

    def _on_device(self) -> Iterator[tuple[str, Tensor]]:
        """Neither transport sends from the host, where offloading keeps weights."""
        for name, tensor in self.source:
            yield name, tensor.cuda() if torch.cuda.is_available() else tensor


class FanOut:
    """Several engines driven as one; they must run at the same time, as they wait for each other in collectives."""

    def __init__(self, clients: Sequence[WeightClient], version: int) -> None:
        self.clients, self.version = list(clients), version
        self.sizes: list[int] = []
        self.failed = False
        self.ended = threading.Event()
        """The delivery is over, or an engine has failed, which ends it for the others too."""

    def workers(self) -> int:
        """GPUs of all engines."""
        self.sizes = [client.workers() for client in self.clients]
        return sum(self.sizes)

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Each engine's workers get the ranks after those of the engine before it."""
        infos, offset = [], int(init_info.get("rank_offset", 0))
        for size in self.sizes or [1] * len(self.clients):
            infos.append(init_info | ({"rank_offset": offset} if "rank_offset" in init_info else {}))
            offset += size
        self._all([methodcaller("init_weight_transfer_engine", info) for info in infos])

    def start_weight_update(self) -> None:
        self._all(repeat(methodcaller("start_weight_update")))

    def update_weights(self, update_info: Any) -> None:
        self._all(repeat(methodcaller("update_weights", update_info)))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._all(repeat(methodcaller("finish_weight_update", weight_version or str(self.version))))

    def _all(self, calls: Iterable[Callable[[WeightClient], None]]) -> None:
        if not self.clients:
            return
        with ThreadPoolExecutor(len(self.clients)) as threads:
            calling = [
                threads.submit(self._call, call, client) for call, client in zip(calls, self.clients, strict=False)
            ]
            for done in calling:
                done.result()

    def _call(self, call: Callable[[WeightClient], None], client: WeightClient) -> None:
        try:
            call(client)
        except BaseException:
            self.failed = True
            self.ended.set()
            raise


class Nccl:
    """Broadcasts from rank 0 to servers on GPUs.

    Args:
        urls: of the servers, which decide the address at which they find rank 0.
    """

    backend = "nccl"

    def __init__(self, rank: int, urls: Sequence[str]) -> None:
        self.rank, self.urls = rank, urls
        self.sends = rank == 0

    def open(self, everyone: FanOut, source: Lockstep) -> TrainerEngine:
        """The group of rank 0 and the engines' GPUs, on a port of its own; the other ranks are not members of it."""
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        info = NCCLTrainerInitInfo(
            rank=self.rank,
            master_address=address_towards(self.urls) if self.sends else "",
            master_port=free_port("") if self.sends else 0,
            world_size=1 + everyone.workers(),
            packed=True,
        )
        engine: TrainerEngine = WeightTransferTrainerFactory.trainer_init(info, client=everyone, source=source)
        return engine


class Ipc:
    """Hands CUDA memory handles to an engine process on the same GPU. Every rank sends to its own engine, so each is
    the sender (rank 0) of its own transfer; vLLM exchanges the handles of all GPUs among the ranks itself.

    Args:
        bucket_bytes: size of the buffer that carries weights; it grows to the largest tensor, which vLLM does not
            split.
    """

    backend = "ipc"
    sends = True

    def __init__(self, bucket_bytes: int) -> None:
        self.bucket_bytes = bucket_bytes

    def open(self, everyone: FanOut, source: Lockstep) -> TrainerEngine:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        buffer = max(self.bucket_bytes, *(meta.nbytes for meta in source.metadata()))
        info = IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=buffer)
        engine: TrainerEngine = WeightTransferTrainerFactory.trainer_init(info, client=everyone, source=source)
        return engine
