"""vLLM in the trainer's own process: one engine a rank, or one over several ranks with tensor parallelism."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from typing import Any

from r1rl.config.rollout import VLLMConfig
from r1rl.distributed.deadline import deadline
from r1rl.model.load import Policy
from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import OnFinish, Request
from r1rl.rollout.vllm.carriers import Carrier
from r1rl.rollout.vllm.check import SyncCheck
from r1rl.rollout.vllm.wire import completion, sampling
from r1rl.types import Completion, SamplingParams


class ColocatedEngine:
    """A plain ``vllm.LLM`` stepped by hand, so that a group is handed on as soon as it is whole.

    Args:
        llm: made with a weight transfer backend that matches ``carrier``.
        rank: for messages.
        deadline_s: longest ``generate``.
        sleeps: give the GPU's memory back between calls.
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
    ) -> None:
        self.llm, self.policy, self.cfg, self.carrier, self.check = llm, policy, cfg, carrier, check
        self.rank, self.deadline_s, self.sleeps = rank, deadline_s, sleeps
        self.version = 0
        self.ending = Ending.of(policy)
        self.client = InProcess(llm)
        self.client.init_weight_transfer_engine({})
        self._synced = False
        self._asleep = False
        self._ids = count()
        self._metrics: dict[str, float] = {}
        self._rest()

    def sync(self, version: int) -> None:
        """Send the learner's weights, drop what was cached under the old ones, and check the result.

        Raises:
            SyncError: the engine does not serve them.
            EngineError: a step took longer than ``sync_timeout_s``.
        """
        with self._phase(f"gathering the weights of version {version}", self.cfg.sync_timeout_s):
            self.carrier.publish(version)
        self._wake()
        with self._phase(f"sending weight version {version}", self.cfg.sync_timeout_s):
            self.carrier.deliver([self.client], version)
        with self._phase("dropping cached prefixes", self.cfg.sync_timeout_s):
            self.llm.reset_prefix_cache()
        with self._phase(f"checking weight version {version}", self.cfg.sync_timeout_s):
            expected = self.check.expect(version)
            gap = self.check.compare("vLLM", expected, self.client.version(), self.client.score(self.check.prompts))
        self._metrics = {"rollout/sync_gap": gap}
        self.version, self._synced = version, True
        self._rest()

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, on_finish: OnFinish | None = None
    ) -> list[list[Completion]]:
        if not self._synced:
            self.sync(self.version)
        results: list[list[Completion]] = [[] for _ in requests]
        self._wake()
        try:
            with self._phase("sampling", self.deadline_s), closing(self._run(requests, params)) as finished:
                for index, outputs in finished:
                    results[index] = outputs
                    if on_finish is not None:
                        on_finish(index, outputs)
        finally:
            self._rest()
        return results

    def metrics(self) -> dict[str, float]:
        """About the last sync."""
        return self._metrics

    def close(self) -> None:
        """Shut vLLM down and free the shared memory."""
        self.carrier.close()
        self.llm.llm_engine.engine_core.shutdown()

    def _run(
        self, requests: Sequence[Request], params: SamplingParams
    ) -> Generator[tuple[int, list[Completion]], None, None]:
        from vllm import SamplingParams as VllmParams
        from vllm.sampling_params import RequestOutputKind

        engine = self.llm.llm_engine
        waiting: dict[str, int] = {}
        try:
            for index, request in enumerate(requests):
                if request.seeds:
                    wanted = sampling(request, params, self.ending.ids, self.cfg.seeded)
                    name = str(next(self._ids))
                    waiting[name] = index
                    engine.add_request(
                        name,
                        {"prompt_token_ids": list(request.problem.prompt_ids)},
                        VllmParams(**wanted, output_kind=RequestOutputKind.FINAL_ONLY, flat_logprobs=True),
                    )
            while waiting:
                for output in engine.step():
                    if output.finished and output.request_id in waiting:
                        yield waiting.pop(output.request_id), [self._completion(c) for c in output.outputs]
        finally:
            if waiting:
                engine.abort_request(list(waiting))

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

    def _wake(self) -> None:
        if self._asleep:
            self.llm.wake_up()
            self._asleep = False

    def _rest(self) -> None:
        if self.sleeps:
            self.llm.sleep(level=1)
            self._asleep = True

    @contextmanager
    def _phase(self, name: str, seconds: float) -> Iterator[None]:
        with deadline(seconds, f"vLLM: {name}", self.rank):
            yield


class InProcess:
    """The controls of an ``LLM`` in this process, in the form that carriers drive."""

    world_size = 1

    def __init__(self, llm: Any) -> None:
        self.llm = llm

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
    """``vllm.LLM`` in this process, with r1rl's weight engine known to it.

    vLLM takes ``variables`` from the environment, some of them again later; those that the user has set stay.
    """
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    from vllm import LLM

    register()
    return LLM(**arguments)
