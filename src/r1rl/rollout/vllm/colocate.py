"""vLLM on the learner's own device: one engine per rank, in the trainer's process or in one beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch

from r1rl.config.rollout import VLLMConfig
from r1rl.distributed.deadline import deadline
from r1rl.errors import EngineError
from r1rl.model.load import Policy
from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import FinishedGroups, Request
from r1rl.rollout.vllm.carriers import Carrier
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.rollout.vllm.wire import completion, sampling
from r1rl.types import Completion, SamplingParams


@contextmanager
def _keeping_the_default_group() -> Iterator[None]:
    """vLLM's engine ends with ``torch.distributed.destroy_process_group()``, also where it joined the trainer's group:
    every collective of the run after it would fail. Within this, groups are destroyed only by name."""
    destroy = torch.distributed.destroy_process_group

    def destroy_named(group: Any = None) -> None:
        if group is not None and group is not torch.distributed.group.WORLD:
            destroy(group)

    torch.distributed.destroy_process_group = destroy_named
    try:
        yield
    finally:
        torch.distributed.destroy_process_group = destroy


class ColocatedEngine:
    """A plain ``vllm.LLM`` stepped here, so that a group is yielded as soon as it is complete.

    It wakes for a sync, samples with those weights, and sleeps from :meth:`rest` until the next sync: once per step.

    Args:
        llm: made with a weight transfer backend that matches ``carrier``.
        rank: for messages.
        deadline_s: longest sampling of one stream.
        sleeps: give the GPU's memory back while the learner works.
        joined: the default process group is the trainer's, made before ``llm``; :meth:`close` leaves it alone.
    """

    def __init__(
        self,
        llm: Any,
        policy: Policy,
        cfg: VLLMConfig,
        carrier: Carrier,
        check: SyncCheck,
        *,
        rank: int = 0,
        deadline_s: float = 1800.0,
        sleeps: bool = False,
        joined: bool = False,
    ) -> None:
        self.llm, self.policy, self.cfg, self.carrier, self.check = llm, policy, cfg, carrier, check
        self.rank, self.deadline_s, self.sleeps, self.joined = rank, deadline_s, sleeps, joined
        self.version = 0
        self.ending = Ending.of(policy)
        self.client = InProcess(llm)
        self.client.init_weight_transfer_engine({})
        self._synced = False
        self._asleep = False
        self._streaming = False
        self._ids = count()
        self._metrics: dict[str, float] = {}
        self.rest()

    def sync(self, version: int) -> None:
        """Send the learner's weights, drop what was cached under the old ones, and check the result.

        Raises:
            SyncError: the engine does not serve them.
            EngineError: a step took longer than ``sync_timeout_s``, or a stream is open.
        """
        self._refuse_while_streaming()
        with self._phase(f"gathering the weights of version {version}", self.cfg.sync_timeout_s):
            self.carrier.publish(version)
        self._wake(["weights"])
        with self._phase(f"sending weight version {version}", self.cfg.sync_timeout_s):
            self.carrier.deliver([self.client], version)
        self._wake()
        with self._phase("dropping cached prefixes", self.cfg.sync_timeout_s):
            self.llm.reset_prefix_cache()
        with self._phase(f"checking weight version {version}", self.cfg.sync_timeout_s):
            expected = self.check.expect(version)
            gap = self.check.compare("vLLM", expected, self.client.version(), self.client.score(self.check.prompts))
        self._metrics = {"rollout/sync_gap": gap}
        self.version, self._synced = version, True

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        """See :meth:`r1rl.rollout.engine.Engine.stream`; one at a time, and no :meth:`sync` while it is open.

        Raises:
            EngineError: sampling took longer than ``deadline_s``, the caller's own time between items left out.
        """
        self._refuse_while_streaming()
        if not self._synced:
            self.sync(self.version)
        waiting: dict[str, int] = {}
        left = self.deadline_s
        self._streaming = True
        try:
            self._wake()
            self._add(requests, params, waiting)
            while waiting:
                begin = time.monotonic()
                with self._phase("sampling", left):
                    finished = self._step_until_finished(waiting)
                left = max(1.0, left - (time.monotonic() - begin))
                for name, completions in finished:
                    yield waiting.pop(name), completions
        finally:
            self._streaming = False
            if waiting:
                self.llm.llm_engine.abort_request(list(waiting))

    def rest(self) -> None:
        """See :func:`r1rl.rollout.engine.rest`."""
        self._refuse_while_streaming()
        if self.sleeps and not self._asleep:
            self.llm.sleep(level=1)
            self._asleep = True

    def metrics(self) -> dict[str, float]:
        """Figures of the last sync."""
        return self._metrics

    def close(self) -> None:
        """Shut vLLM down and free the shared memory."""
        self.carrier.close()
        with _keeping_the_default_group() if self.joined else nullcontext():
            self.llm.llm_engine.engine_core.shutdown()

    def _add(self, requests: Sequence[Request], params: SamplingParams, waiting: dict[str, int]) -> None:
        """Queue the requests; ``waiting`` receives their names and indices."""
        from vllm import SamplingParams as VllmParams
        from vllm.sampling_params import RequestOutputKind

        for index, request in enumerate(requests):
            if request.seeds:
                wanted = sampling(request, params, self.ending.ids, self.cfg.seeded)
                name = str(next(self._ids))
                waiting[name] = index
                self.llm.llm_engine.add_request(
                    name,
                    {"prompt_token_ids": list(request.problem.prompt_ids)},
                    VllmParams(**wanted, output_kind=RequestOutputKind.FINAL_ONLY, flat_logprobs=True),
                )

    def _step_until_finished(self, waiting: Container[str]) -> list[tuple[str, list[Completion]]]:
        """Step vLLM until at least one of these requests is finished."""
        while True:
            outputs = [o for o in self.llm.llm_engine.step() if o.finished and o.request_id in waiting]
            if outputs:
                return [(o.request_id, [self._completion(c) for c in o.outputs]) for o in outputs]

    def _refuse_while_streaming(self) -> None:
        if self._streaming:
            raise EngineError(
                "the colocated vLLM engine is sampling: finish or close its stream before the next stream, sync or rest"
            )

    def _completion(self, output: Any) -> Completion:
        spans = [(s.version, s.start, s.end) for s in output.weight_versions or ()]
        logps = output.logprobs
        return completion(
            self.ending,
            output.token_ids,
            [logps.logprobs[start] for start in logps.start_indices],
            output.finish_reason,
            spans,
            self.version,
        )

    def _wake(self, parts: list[str] | None = None) -> None:
        """Take the memory of these parts again, or of all."""
        if self._asleep:
            free_cached()
            self.llm.wake_up(parts)
            self._asleep = parts is not None

    @contextmanager
    def _phase(self, name: str, seconds: float) -> Iterator[None]:
        with deadline(seconds, f"vLLM: {name}", self.rank):
            yield


class InProcess:
    """The controls of an ``LLM`` in this process, in the form that carriers drive."""

    def __init__(self, llm: Any) -> None:
        self.llm = llm

    def workers(self) -> int:
        return 1

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        self.llm.start_weight_update()

    def update_weights(self, update_info: Any) -> None:
        self.llm.update_weights({"update_info": update_info})

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.llm.finish_weight_update(weight_version)

    def version(self) -> str:
        return str(self.llm.get_weight_version())

    def score(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of each prompt's tokens but the first."""
        from vllm import SamplingParams as VllmParams

        params = VllmParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        outputs = self.llm.generate([{"prompt_token_ids": list(p)} for p in prompts], params, use_tqdm=False)
        return [
            [row[token].logprob for row, token in zip(o.prompt_logprobs[1:], p[1:], strict=True)]
            for o, p in zip(outputs, prompts, strict=True)
        ]


def make_llm(arguments: dict[str, Any], variables: Mapping[str, str], register: Callable[[], None]) -> Any:
    """``vllm.LLM`` in this process, with r1rl's weight engines registered.

    vLLM takes ``variables`` from the environment, some of them again later; those that the user has set stay.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    from vllm import LLM

    register()
    free_cached()
    return LLM(**arguments)


def free_cached() -> None:
    """Give the memory that torch keeps for later tensors back to the GPU, where vLLM, which has an allocator of its
    own, can take it."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
