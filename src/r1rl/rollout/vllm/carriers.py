"""Transports for weights: in the same process, and through shared memory. vLLM's own are in :mod:`.vllm_carriers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from r1rl.errors import EngineError
from r1rl.rollout.vllm.weights import BACKEND, DIRECT, PolicyWeights, SharedFolder, SharedWeights


class WeightClient(Protocol):
    """The receiving engine's controls. vLLM's trainer engines drive these four methods too."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None: ...

    def start_weight_update(self) -> None: ...

    def update_weights(self, update_info: Any) -> None: ...

    def finish_weight_update(self, weight_version: str | None = None) -> None: ...

    def workers(self) -> int:
        """Processes that hold its weights, one per GPU."""


class Carrier(Protocol):
    """Publishes a version once and delivers it to engines."""

    backend: str
    """The worker's side, by its name with vLLM's factory."""
    replays: bool
    """Whether :meth:`replay` works."""

    def publish(self, version: int) -> None:
        """Prepare the learner's weights for sending (a collective: every rank calls it)."""

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        """Send what was published, and label it (a collective, which every rank completes even if it raises). A rank
        that drives no engine calls it with none."""

    def replay(self, client: WeightClient, version: int) -> None:
        """Send it to one more engine, from any thread, while the learner continues.

        Raises:
            EngineError: this transport cannot; the engine has to wait for the next sync.
        """

    def close(self) -> None: ...


class DirectCarrier:
    """Hands tensors by reference to an engine in this process: no copy, no buffer, tensors of any size.

    The engine's loader reads them one by one, so under ZeRO-3 one parameter at a time is whole.
    """

    backend = DIRECT
    replays = False

    def __init__(self, source: PolicyWeights) -> None:
        self.source = source

    def publish(self, version: int) -> None:
        """Nothing to prepare: gathering and loading overlap in :meth:`deliver`."""

    def deliver(self, clients: Sequence[WeightClient], version: int) -> None:
        [client] = clients
        client.start_weight_update()
        client.update_weights({"weights": self.source})
        client.finish_weight_update(str(version))

    def replay(self, client: WeightClient, version: int) -> None:
        raise EngineError("an engine in the trainer's process gets its weights at a sync only")

    def close(self) -> None:
        """Holds nothing."""


class SharedMemoryCarrier:
    """A file in shared memory, for engines on this machine. It stays until the next version replaces it, so an
    engine that comes back later loads it without the learner.

    Args:
        writes: whether this rank drives engines; the others only take part in gathering.
    """

    backend = BACKEND
    replays = True

    def __init__(self, source: PolicyWeights, bucket_bytes: int, writes: bool) -> None:
        self.source, self.bucket_bytes, self.writes = source, bucket_bytes, writes
        self.folder = SharedFolder()
        self.current: SharedWeights | None = None

    def publish(self, version: int) -> None:
        self.source.metadata()
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
