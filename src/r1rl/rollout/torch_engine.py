"""The embedded engine: batched sampling on the policy's own weights, no server, no copy of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import Tensor

from r1rl.config import RunConfig
from r1rl.model.attention import positions
from r1rl.model.decode import fused_body
from r1rl.model.head import body_and_head, cap_of, head_function, softcap
from r1rl.model.load import DTYPES, Policy
from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import FinishedGroups, Request
from r1rl.rollout.kv import Prefill, Slots
from r1rl.rollout.sampling import choose
from r1rl.rollout.seeds import uniforms
from r1rl.types import Completion, FinishReason, SamplingParams

PREFILL_TOKENS = 8192
"""Prompt tokens in one forward pass."""


@dataclass(slots=True)
class _Row:
    """One completion being decoded."""

    request: int
    sample: int
    uniforms: np.ndarray
    version: int
    token_ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    finish: FinishReason | None = None
    swaps: list[tuple[int, int]] = field(default_factory=list)
    """Number of tokens when the weights changed, and the new version."""


class TorchEngine:
    """Continuous batching over the policy itself.

    Prompts are computed once for all completions of a request. Finished sequences leave the batch; waiting
    requests take their place. The linear layers compute no padding.

    Args:
        policy: shared with the learner, so a sync moves nothing.
        max_concurrent: sequences decoded at once.
        autocast: precision of the passes.
        fp32_head: compute the logits in float32 whatever ``autocast`` is, as the learner does.
    """

    def __init__(
        self, policy: Policy, max_concurrent: int, autocast: torch.dtype | None = None, fp32_head: bool = True
    ) -> None:
        self.policy = policy
        self.max_concurrent = max_concurrent
        self.autocast, self.fp32_head = autocast, fp32_head
        self.version = 0

    @classmethod
    def of(cls, cfg: RunConfig, policy: Policy) -> Self:
        """The engine that a configuration describes, with the learner's precision."""
        autocast = None if cfg.model.dtype == "float32" else DTYPES[cfg.model.dtype]
        return cls(policy, cfg.rollout.max_concurrent, autocast, cfg.model.cast_lm_head_to_fp32)

    def sync(self, version: int) -> None:
        if self.policy.refresh is not None:
            self.policy.refresh()
        self.version = version

    def metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        """Nothing to release: the weights are the learner's."""

    def stream(self, requests: Sequence[Request], params: SamplingParams) -> FinishedGroups:
        """See :meth:`r1rl.rollout.engine.Engine.stream`. After an update of the policy between two items, call
        :meth:`sync` before the next: running completions continue with the new weights, and carry a version per token.
        """
        with self._sampling():
            batch = _Batch(self, requests, params)
        while True:
            with self._sampling():
                finished = batch.advance()
            if not finished:
                return
            yield from finished

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        """No gradients, evaluation mode and the passes' precision. Never held across a ``yield``, or the caller would
        compute under them."""
        model = self.policy.model
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), torch.autocast(model.device.type, self.autocast, enabled=self.autocast is not None):
                yield
        finally:
            model.train(was_training)


class _Batch:
    """The sequences of one :meth:`TorchEngine.stream`."""

    def __init__(self, engine: TorchEngine, requests: Sequence[Request], params: SamplingParams) -> None:
        self.engine, self.requests, self.params = engine, requests, params
        self.model, self.tokenizer = engine.policy.model, engine.policy.tokenizer
        self.device = self.model.device
        self.ending = Ending.of(engine.policy)
        self.waiting: deque[int] = deque(i for i, r in enumerate(requests) if r.seeds)
        self.rows: list[_Row] = []
        self.slots = Slots(self.device)
        self.results: list[list[Completion | None]] = [[None] * len(r.seeds) for r in requests]
        self.missing = [len(r.seeds) for r in requests]
        self.finished: list[tuple[int, list[Completion]]] = []
        self._read_weights()

    def _read_weights(self) -> None:
        """Compute once per version what depends on the weights alone."""
        self.version = self.engine.version
        self.body, head = body_and_head(self.model)
        self.head = head_function(head, self.engine.fp32_head)
        self.fused = fused_body(self.model, self.engine.autocast)

    def advance(self) -> list[tuple[int, list[Completion]]]:
        """Decode until a request is finished; returns the finished ones, or none where nothing is left."""
        if self.version != self.engine.version:
            self._read_weights()
            for row in self.rows:
                row.swaps.append((len(row.token_ids), self.version))
        while not self.finished and (self.waiting or self.rows):
            self._drop_finished()
            self._admit()
            if self.rows:
                self._decode()
        finished, self.finished = self.finished, []
        return finished

    def _admit(self) -> None:
        """Prefill waiting requests into the free part of the batch."""
        admitted: list[int] = []
        tokens, slots = 0, len(self.rows)
        while self.waiting:
            request = self.requests[self.waiting[0]]
            room = not slots or slots + len(request.seeds) <= self.engine.max_concurrent
            if not room or (admitted and tokens + len(request.problem.prompt_ids) > PREFILL_TOKENS):
                break
            admitted.append(self.waiting.popleft())
            slots += len(request.seeds)
            tokens += len(request.problem.prompt_ids)
        if admitted:
            self._prefill(admitted)

    def _prefill(self, admitted: list[int]) -> None:
        prompts = [self.requests[i].problem.prompt_ids for i in admitted]
        copies = [len(self.requests[i].seeds) for i in admitted]
        lengths = tuple(len(p) for p in prompts)
        layout = Prefill(lengths)
        ids = torch.tensor([t for p in prompts for t in p], device=self.device)[None]
        hidden_TE = self.body(
            input_ids=ids, position_ids=positions(lengths, self.device), layout=layout, use_cache=False
        ).last_hidden_state[0]
        last = torch.tensor(lengths, device=self.device).cumsum(0) - 1
        rows = [
            _Row(i, s, uniforms(seed, self.params.max_new_tokens), self.version)
            for i in admitted
            for s, seed in enumerate(self.requests[i].seeds)
        ]
        self.slots.append(layout, copies)
        logits = self._logits(hidden_TE[last])
        self.rows += rows
        self._take(rows, logits.repeat_interleave(torch.tensor(copies, device=self.device), 0))

    def _decode(self) -> None:
        """One token per row."""
        at = self.slots.lengths
        ids = torch.tensor([row.token_ids[-1] for row in self.rows], device=self.device)
        layout = self.slots.step()
        if self.fused is not None:
            hidden_BE = self.fused(ids, at, layout)
        else:
            passed = self.body(input_ids=ids[:, None], position_ids=at[:, None], layout=layout, use_cache=False)
            hidden_BE = passed.last_hidden_state[:, 0]
        self._take(self.rows, self._logits(hidden_BE))

    def _logits(self, hidden_BE: Tensor) -> Tensor:
        return softcap(self.head(hidden_BE), cap_of(self.model))

    def _take(self, rows: Sequence[_Row], logits_BV: Tensor) -> None:
        """Sample a token for each of ``rows`` and see which of them are done."""
        draws = torch.tensor([row.uniforms[min(len(row.token_ids), len(row.uniforms) - 1)] for row in rows])
        tokens, logps = choose(logits_BV, draws.to(self.device), self.params)
        for row, token, logp in zip(rows, tokens.tolist(), logps.tolist(), strict=True):
            if row.finish is not None:
                continue
            row.token_ids.append(token)
            row.logps.append(logp)
            row.finish = self._finish_reason(row)
            if row.finish is not None:
                self._deliver(row)

    def _finish_reason(self, row: _Row) -> FinishReason | None:
        if row.token_ids[-1] in self.ending.ids or (self.params.stop and self._hit_stop(row)):
            return "stop"
        return "length" if len(row.token_ids) >= self.params.max_new_tokens else None

    def _hit_stop(self, row: _Row) -> bool:
        # A stop string of n characters lies within the last n tokens and one more that may end in its first one.
        reach = max(len(s.encode()) for s in self.params.stop) + 1
        tail = self.tokenizer.decode(row.token_ids[-reach:])
        return any(stop in tail for stop in self.params.stop)

    def _deliver(self, row: _Row) -> None:
        self.results[row.request][row.sample] = Completion(
            token_ids=np.array(row.token_ids, dtype=np.int64),
            logps=np.array(row.logps, dtype=np.float32),
            text=self.ending.text(row.token_ids),
            finish=row.finish or "abort",
            version=row.version,
            versions=_versions(row),
        )
        self.missing[row.request] -= 1
        if self.missing[row.request] == 0:
            self.finished.append((row.request, [c for c in self.results[row.request] if c is not None]))

    def _drop_finished(self) -> None:
        """Remove finished rows once they are an eighth of the batch: compaction copies the surviving rows, while a
        finished row that stays wastes computation."""
        live = [i for i, row in enumerate(self.rows) if row.finish is None]
        if not live:
            self.rows, self.slots = [], Slots(self.device)
        elif (len(self.rows) - len(live)) * 8 >= len(self.rows):
            self.slots.keep(torch.tensor(live, device=self.device))
            self.rows = [self.rows[i] for i in live]


def _versions(row: _Row) -> np.ndarray | None:
    """[T] int32 weight version of each token; None where one version sampled them all."""
    if not row.swaps:
        return None
    versions = np.full(len(row.token_ids), row.version, dtype=np.int32)
    for start, version in row.swaps:
        versions[start:] = version
    return versions
