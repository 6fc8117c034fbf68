"""Transports for weights, one class each: shared memory, NCCL, CUDA IPC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import methodcaller
from typing import Any, Protocol

from r1rl.errors import EngineError
from r1rl.rollout.vllm.weights import BACKEND, PolicyWeights, SharedFolder, SharedWeights


class WeightClient(Protocol):
    """The receiving engine's controls. vLLM's trainer engines drive these four methods too."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...


class Carrier(Protocol):
    """Publishes a version once and delivers it to engines."""

    backend: str
    """The worker's side, by its name with vLLM's factory."""

    def publish(self, version: int) -> None:
        """Prepare the learner's weights for sending (a collective: every rank calls it)."""

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        """Send what was published, and label it. A rank that drives no engine calls it with none."""

    def replay(self, client: WeightClient, version: int) -> None:
        """Send it to one more engine, from any thread, while the learner continues.

        Raises:
            EngineError: this transport cannot; the engine has to wait for the next sync.
        """

    def close(self) -> None: ...


class SharedMemoryCarrier:
    """A file in shared memory, for engines on this machine. It stays until the next version replaces it, so an
    engine that comes back later loads it without the learner.

    Args:
        writes: whether this rank drives engines; the others only take part in gathering.
    """

    backend = BACKEND

    def __init__(self, source: PolicyWeights, bucket_bytes: int, writes: bool) -> None:
        self.source, self.bucket_bytes, self.writes = source, bucket_bytes, writes
        self.folder = SharedFolder()
        self.current: SharedWeights | None = None

    def publish(self, version: int) -> None:
        if not self.writes:
            for _ in self.source:
                pass
            return
        old = self.current
        self.current = SharedWeights.write(self.source, version, self.folder.path, self.bucket_bytes)
        if old is not None and old.path != self.current.path:
            old.remove()

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        for client in clients:
            self.replay(client, version)

    def replay(self, client: WeightClient, version: int) -> None:
        current = self.current
        if current is None or current.version != version:
            raise EngineError(f"weight version {version} was never published")
        client.start_weight_update()
        for request in current.requests():
            client.update_weights(request)
        client.finish_weight_update(str(version))

    def close(self) -> None:
        self.folder.close()


class VllmCarrier:
    """vLLM's own trainer-side engines. ``open`` makes one for the clients that take part.

    The group is opened again when the clients change: a restarted engine joins at the next sync.
    """

    def __init__(self, backend: str, opener: Callable[[WeightClient], Any]) -> None:
        self.backend, self.opener = backend, opener
        self._clients: list[WeightClient] = []
        self._engine: Any = None

    def publish(self, version: int) -> None:
        """Nothing to prepare: gathering and sending overlap in :meth:`deliver`."""

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        everyone = FanOut(clients, version)
        if self._engine is None or list(clients) != self._clients:
            self.close()
            self._engine, self._clients = self.opener(everyone), list(clients)
        self._engine.client = everyone
        self._engine.send_weights()

    def replay(self, client: WeightClient, version: int) -> None:
        raise EngineError(f"weights sent by {self.backend} reach a restarted server at the next sync only")

    def close(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None


class FanOut:
    """Several engines driven as one; they must run at the same time, as they wait for each other in collectives."""

    def __init__(self, clients: Sequence[WeightClient], version: int) -> None:
        self.clients, self.version = list(clients), version

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        infos, offset = [], int(init_info.get("rank_offset", 1))
        for client in self.clients:
            infos.append(init_info | ({"rank_offset": offset} if "rank_offset" in init_info else {}))
            offset += int(getattr(client, "world_size", 1))
        self._all([methodcaller("init_weight_transfer_engine", info) for info in infos])

    def start_weight_update(self) -> None:
        self._all(repeat(methodcaller("start_weight_update")))

    def update_weights(self, update_info: Any) -> None:
        self._all(repeat(methodcaller("update_weights", update_info)))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._all(repeat(methodcaller("finish_weight_update", weight_version or str(self.version))))

    def _all(self, calls: Iterable[Callable[[WeightClient], None]]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        if not self.clients:
            return
        with ThreadPoolExecutor(len(self.clients)) as threads:
            for done in [threads.submit(call, client) for call, client in zip(calls, self.clients, strict=False)]:
                done.result()


def nccl(source: PolicyWeights, rank: int, address: str, port: int, workers: Callable[[], int]) -> VllmCarrier:
    """Broadcast to servers on GPUs. ``workers`` counts the receiving GPUs when the group is opened.

    Unproven: written against vLLM 0.32's source, not yet run on GPUs.
    """

    def open_group(client: WeightClient) -> Any:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        info = NCCLTrainerInitInfo(
            rank=rank, master_address=address, master_port=port, world_size=1 + workers(), packed=True
        )
        return WeightTransferTrainerFactory.trainer_init(info, client=client, source=source)

    return VllmCarrier("nccl", open_group)


def ipc(source: PolicyWeights, bucket_bytes: int) -> VllmCarrier:
    """Hand over CUDA memory handles to an engine process on the same GPU. Every rank sends to its own engine, so each
    is the sender (rank 0) of its own transfer; vLLM exchanges the handles of all GPUs among the ranks itself.

    Unproven: written against vLLM 0.32's source, not yet run on GPUs.
    """

    def open_group(client: WeightClient) -> Any:
        from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        info = IPCTrainerInitInfo(rank=0, packed=True, packed_buffer_size_bytes=bucket_bytes)
        return WeightTransferTrainerFactory.trainer_init(info, client=client, source=source)

    return VllmCarrier("ipc", open_group)
