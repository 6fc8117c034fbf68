"""vLLM's transports without vLLM: when a group is opened, who is in it, and that no delivery waits for ever."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from r1rl.errors import EngineError
from r1rl.model.load import Policy
from r1rl.rollout.vllm.carriers import DirectCarrier
from r1rl.rollout.vllm.client import Client, ServerError
from r1rl.rollout.vllm.vllm_carriers import FanOut, Ipc, Lockstep, Nccl, VllmCarrier
from r1rl.rollout.vllm.weights import PolicyWeights
from tests.support.waits import HANG_S

NAMES = ["a", "b", "c"]


class Source:
    """Weights whose gathering is counted, as under ZeRO-3 the other ranks would notice one missing."""

    def __init__(self) -> None:
        self.gathered: list[str] = []

    def metadata(self) -> list[Any]:
        return [SimpleNamespace(name=name, nbytes=8) for name in NAMES]

    def held_names(self) -> None: ...

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name in NAMES:
            self.gathered.append(name)
            yield name, torch.zeros(2)


class Group:
    """A trainer-side engine that sends two tensors and then does what a test wants."""

    def __init__(self, client: FanOut, source: Lockstep, then: Callable[[Group], None] | None = None) -> None:
        self.client, self.source, self.then = client, source, then
        self.aborted = threading.Event()

    def send_weights(self) -> None:
        self.client.start_weight_update()
        weights = iter(self.source)
        next(weights), next(weights)
        if self.then is not None:
            self.then(self)
        for _ in weights:
            pass
        self.client.finish_weight_update()

    def shutdown(self) -> None:
        self.aborted.set()


class Transport:
    backend = "nccl"

    def __init__(self, sends: bool = True) -> None:
        self.sends, self.groups = sends, list[Group]()
        self.then: Callable[[Group], None] | None = None
        self.fails = False

    def open(self, everyone: FanOut, source: Lockstep) -> Group:
        if self.fails:
            raise RuntimeError("no rendezvous")
        self.groups.append(Group(everyone, source, self.then))
        return self.groups[-1]


class Receiver:
    """An engine's controls."""

    def __init__(self, gpus: int = 1) -> None:
        self.gpus, self.calls = gpus, list[tuple[str, Any]]()
        self.refuses = ""

    def workers(self) -> int:
        return self.gpus

    def _call(self, name: str, value: Any = None) -> None:
        if name == self.refuses:
            raise ServerError(f"{name} refused")
        self.calls.append((name, value))

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call("init", init_info)

    def start_weight_update(self) -> None:
        self._call("start")

    def update_weights(self, update_info: Any) -> None:
        self._call("update", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call("finish", weight_version)


def made(transport: Transport, seconds: float = 30.0) -> tuple[VllmCarrier, Source]:
    source = Source()
    return VllmCarrier(transport, source, seconds), source  # type: ignore[arg-type]


def test_a_group_lasts_while_its_members_do() -> None:
    transport, first, second = Transport(), Receiver(), Receiver()
    carrier, source = made(transport)
    for version, members, groups in ((1, [first], 1), (2, [first], 1), (3, [first, second], 2), (4, [second], 3)):
        source.gathered.clear()
        carrier.deliver(members, version)
        assert len(transport.groups) == groups
        assert source.gathered == NAMES
        assert all(member.calls[-1] == ("finish", str(version)) for member in members)
    assert [group.aborted.is_set() for group in transport.groups] == [True, True, False]
    carrier.close()
    assert transport.groups[-1].aborted.is_set()


def test_a_server_that_was_restarted_is_another_member() -> None:
    """Its address may be the same, but the new process is in no group; the old client would never be opened again."""
    transport = Transport()
    carrier, _ = made(transport)
    calls: list[str] = []
    client = Client("http://127.0.0.1:9", None, request_s=1.0, sync_s=1.0)
    again = client.renewed(client.url)
    for member in (client, again):
        member._post = lambda path, *_: calls.append(path)  # type: ignore[method-assign]
    carrier.deliver([client], 1)
    carrier.deliver([again], 2)
    assert len(transport.groups) == 2
    assert again.request_s == client.request_s


def test_a_group_that_failed_is_not_used_again() -> None:
    transport, server = Transport(), Receiver()
    carrier, _source = made(transport)
    server.refuses = "finish"
    with pytest.raises(ServerError, match="finish refused"):
        carrier.deliver([server], 1)
    assert transport.groups[0].aborted.is_set()
    server.refuses = ""
    carrier.deliver([server], 2)
    assert len(transport.groups) == 2


@pytest.mark.parametrize("moment", ["opening", "starting", "half-way", "finishing", "nobody"])
def test_every_rank_gathers_everything_whatever_fails(moment: str) -> None:
    """The other ranks take part in gathering all weights: a rank that stopped half-way would leave them waiting."""
    transport, server = Transport(), Receiver()
    carrier, source = made(transport)
    transport.fails = moment == "opening"
    transport.then = fail if moment == "half-way" else None
    server.refuses = {"starting": "start", "finishing": "finish"}.get(moment, "")
    if moment == "nobody":
        carrier.deliver([], 1)
        assert not transport.groups, "a sender without receivers opens no group"
    else:
        with pytest.raises((RuntimeError, EngineError)):
            carrier.deliver([server], 1)
    assert source.gathered == NAMES


def fail(group: Group) -> None:
    raise RuntimeError("NCCL error: remote process exited")


def test_ranks_that_send_nothing_gather_and_open_their_side_once() -> None:
    transport = Transport(sends=False)
    carrier, source = made(transport)
    carrier.deliver([], 1)
    carrier.deliver([], 2)
    assert len(transport.groups) == 1
    assert source.gathered == NAMES * 2


def stuck(group: Group) -> None:
    """As in an NCCL call whose peers are gone: only an abort of the communicator ends it."""
    assert group.aborted.wait(HANG_S)


def test_a_delivery_that_is_late_is_aborted() -> None:
    transport = Transport()
    transport.then = stuck
    carrier, source = made(transport, seconds=0.2)
    with pytest.raises(EngineError, match=r"took more than 0\.2 s \(rollout.vllm.sync_timeout_s\)"):
        carrier.deliver([Receiver()], 1)
    assert source.gathered == NAMES


def test_a_rank_that_only_gathers_waits_as_long_as_the_one_that_sends() -> None:
    """That one may wait for a server to open its side of the group, well beyond the time of a delivery."""
    transport = Transport(sends=False)
    transport.then = slow
    carrier, source = made(transport, seconds=0.05)
    carrier.deliver([], 1)
    assert source.gathered == NAMES
    assert not transport.groups[0].aborted.is_set()


def slow(_: Group) -> None:
    time.sleep(0.3)


def test_a_member_that_fails_ends_the_delivery_at_once() -> None:
    transport, server = Transport(), Receiver()

    def refused_meanwhile(group: Group) -> None:
        server.refuses = "update"
        caller = threading.Thread(target=refused, args=(group,))
        caller.start()
        stuck(group)
        caller.join()
        raise RuntimeError("aborted")

    transport.then = refused_meanwhile
    carrier, _ = made(transport, seconds=10 * HANG_S)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="aborted"):
        carrier.deliver([server], 1)
    assert time.monotonic() - begin < HANG_S


def refused(group: Group) -> None:
    with pytest.raises(ServerError):
        group.client.update_weights({})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What vLLM's trainer factory was given."""
    infos: list[Any] = []

    def trainer_init(info: Any, *, client: FanOut, source: Lockstep) -> Group:
        infos.append(info)
        return Group(client, source)

    package = "vllm.distributed.weight_transfer"
    factory: Any = ModuleType(f"{package}.factory")
    factory.WeightTransferTrainerFactory = SimpleNamespace(trainer_init=trainer_init)
    nccl: Any = ModuleType(f"{package}.nccl_engine")
    nccl.NCCLTrainerInitInfo = SimpleNamespace
    ipc: Any = ModuleType(f"{package}.ipc_engine")
    ipc.IPCTrainerInitInfo = SimpleNamespace
    for module in (factory, nccl, ipc, ModuleType("vllm"), ModuleType("vllm.distributed"), ModuleType(package)):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return infos


def test_rank_0_alone_counts_and_only_those_it_sends_to(told: list[Any]) -> None:
    urls = ["http://127.0.0.1:8000", "http://127.0.0.1:8001"]
    senders = [VllmCarrier(Nccl(rank, urls), Source(), 30.0) for rank in range(3)]  # type: ignore[arg-type]
    up, down = Receiver(gpus=4), Receiver(gpus=8)
    down.workers = lambda: pytest.fail("it is not sent anything, and may not be up")  # type: ignore[method-assign]
    senders[0].deliver([up], 1)
    for other in senders[1:]:
        other.deliver([], 1)
    assert [info.rank for info in told] == [0, 1, 2]
    assert told[0].world_size == 5
    assert told[0].master_address == "127.0.0.1"
    senders[0].deliver([up, Receiver(gpus=2)], 2)
    assert told[-1].world_size == 7
    assert told[-1].master_port != told[0].master_port, "the store of the group before may still hold its port"


def test_engines_of_several_gpus_get_the_ranks_after_each_other() -> None:
    servers = [Receiver(gpus) for gpus in (4, 2, 1)]
    everyone = FanOut(servers, 3)
    assert everyone.workers() == 7
    everyone.init_weight_transfer_engine({"rank_offset": 1, "world_size": 8})
    assert [server.calls[0][1]["rank_offset"] for server in servers] == [1, 5, 7]


def test_the_buffer_of_ipc_holds_the_largest_tensor(told: list[Any], tiny_policy: Policy) -> None:
    source = PolicyWeights(tiny_policy, torch.float32)
    largest = max(meta.nbytes for meta in source.metadata())
    for asked, given in ((16, largest), (largest + 5, largest + 5)):
        VllmCarrier(Ipc(asked), source, 30.0).deliver([Receiver()], 1)
        assert told[-1].packed_buffer_size_bytes == given


def test_an_engine_in_the_same_process_gets_the_tensors_themselves(tiny_policy: Policy) -> None:
    source, engine = PolicyWeights(tiny_policy, torch.float32), Receiver()
    DirectCarrier(source).deliver([engine], 7)
    [(_, _), (_, update), finish] = engine.calls
    parameters = dict(tiny_policy.model.named_parameters())
    given = dict(update["weights"])
    assert given.keys() == parameters.keys()
    assert all(given[name].data_ptr() == parameter.data_ptr() for name, parameter in parameters.items())
    assert finish == ("finish", "7")
