"""Checks after every sync that the engine serves the learner's weights, because a sync can fail silently."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from r1rl.errors import EngineError
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy
from r1rl.model.rounding import computing_in

log = logging.getLogger(__name__)

TEXTS = (
    "User: What is 7 + 5 - 3?\nAssistant: <think>7 + 5 = 12\n12 - 3 = 9</think>\n<answer>9</answer>",
    "Let x be the number of apples. Then 2x + 4 = 18, so x = 7.",
    "The answer does not follow from the first step, so let me check it again.",
    "def add(a, b):\n    return a + b",
)
"""The probes' texts; any text works, these resemble what a policy reads and writes."""
LONGEST = 48
EXACT_TOLERANCE = 1e-3
"""Largest mean |Δ| in float32, nats. Measured on the CPU build: 1e-6; a stale output head gives 0.7."""
ROUNDINGS, LEAST_TOLERANCE = 2.0, 0.02
"""In bfloat16, the tolerance is ``ROUNDINGS`` times the model's own rounding, and this at least, nats."""
MEASURE_EVERY = 64
"""Versions after which rounding is measured again: it grows as a policy becomes more certain."""
MOVED = {torch.float32: 1e-5, torch.bfloat16: 2e-3}
"""A change of the learner larger than this must show in the engine; one that still has the old weights is unchanged bit
for bit."""


class SyncError(EngineError):
    """The engine does not serve the weights that it was sent."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The learner's log-probabilities of the probe tokens, at one version."""

    version: int
    logps: np.ndarray


class SyncCheck:
    """Fixed probe tokens, scored by both learner and engine.

    Args:
        autocast: precision of the learner's passes; None is float32.
        tolerance: largest mean |Δ log p|, nats. None is :data:`EXACT_TOLERANCE` in float32; in lower precision it is
            derived from the model's own rounding, see :meth:`_measure`.
        fp32_head: whether the learner computes its logits in float32.
    """

    def __init__(
        self, policy: Policy, autocast: torch.dtype | None, tolerance: float | None = None, fp32_head: bool = True
    ) -> None:
        self.dtype = autocast or torch.float32
        self.tolerance = tolerance or EXACT_TOLERANCE
        self.measures = tolerance is None and autocast is not None
        self.moved = MOVED[self.dtype]
        self.forward = PolicyForward(policy.model, 1.0, 4096, autocast, fp32_head=fp32_head)
        self.plain = PolicyForward(policy.model, 1.0, 4096, fp32_head=False)
        for forward in (self.forward, self.plain):
            gather_at_call(forward.head)
        self.prompts = [policy.tokenizer.encode(text, add_special_tokens=False)[:LONGEST] for text in TEXTS]
        self._last: dict[str, tuple[Expected, np.ndarray]] = {}
        self._next: int | None = None
        """Version at which rounding is measured next; None before the first."""

    @torch.no_grad()
    def expect(self, version: int) -> Expected:
        """One forward pass of the learner (a collective under ZeRO-3), and now and then a measurement of rounding."""
        model = self.forward.model
        was_training = model.training
        model.eval()
        tokens = PackedTokens.build(self.prompts, [1] * len(self.prompts), model.device)
        logps = self._logps(self.forward, tokens)
        if self.measures and (self._next is None or version >= self._next):
            self._measure(tokens, logps)
            self._next = version + MEASURE_EVERY
        model.train(was_training)
        return Expected(version, logps)

    def _measure(self, tokens: PackedTokens, logps: np.ndarray) -> None:
        """Set the tolerance from what rounding does to this model's log-probabilities of the probes, mean |Δ| in nats:

            tolerance = ROUNDINGS · (|learner - exact| + |low - exact|)

        ``exact`` is a pass in float32. ``low`` has weights, residual stream and logits in the lower precision: an
        engine's pass, with other kernels. The sum bounds |learner - engine| where the engine rounds as much as ``low``;
        the factor is for kernels that round more.
        """
        with computing_in(torch.float32, self.plain):
            exact = self._logps(self.plain, tokens)
        with computing_in(self.dtype, self.plain):
            low = self._logps(self.plain, tokens)
        own, engine = (float(np.abs(each - exact).mean()) for each in (logps, low))
        self.tolerance = max(LEAST_TOLERANCE, ROUNDINGS * (own + engine))
        name = str(self.dtype).removeprefix("torch.")
        log.info(
            f"sync check: {name} moves this model's log-probabilities by {own:.3g} nats in the learner and "
            f"{engine:.3g} in an engine, on average; {self.tolerance:.3g} are allowed between the two"
        )

    @staticmethod
    def _logps(forward: PolicyForward, tokens: PackedTokens) -> np.ndarray:
        logps_C, _ = forward(tokens)
        values: np.ndarray = logps_C.float().cpu().numpy()
        return values

    def compare(self, engine: str, expected: Expected, version: str, logps: Sequence[Sequence[float]]) -> float:
        """Mean |Δ log p| of the probe tokens, nats.

        Args:
            engine: name of the engine, for the message and to remember its last answer.
            version: the weight version it reports.
            logps: of each probe's tokens but the first.

        Raises:
            SyncError: another version, log-probabilities too far off, or none moved though the learner's did.
        """
        if version != str(expected.version):
            raise SyncError(f"{engine} serves weight version {version}, the learner is at {expected.version}")
        measured = np.concatenate([np.asarray(row, np.float32) for row in logps])
        if measured.shape != expected.logps.shape:
            raise SyncError(f"{engine} returned {measured.size} probe tokens instead of {expected.logps.size}")
        gap = float(np.abs(measured - expected.logps).mean())
        if not gap <= self.tolerance:
            raise SyncError(
                f"{engine} reports weight version {version} but serves other weights: its log-probabilities are "
                f"{gap:.3g} nats off the learner's on average, where {self.tolerance:g} is allowed "
                "(rollout.vllm.check_tolerance)"
            )
        before, old = self._last.get(engine, (expected, measured))
        step = float(np.abs(expected.logps - before.logps).mean())
        if step > self.moved and np.array_equal(old, measured):
            raise SyncError(
                f"{engine} reports weight version {version}, but none of its log-probabilities moved since version "
                f"{before.version}, while the learner's did by {step:.3g} nats: the sync did not arrive"
            )
        self._last[engine] = (expected, measured)
        return gap

    def forget(self, engine: str) -> None:
        """The engine's next answer comes from a new process."""
        self._last.pop(engine, None)


def gather_at_call(module: nn.Module) -> None:
    """Under ZeRO-3, gather the module's weights while it runs. DeepSpeed does so for the modules it was given; the
    head of another :class:`PolicyForward` over the same model is not one of them."""
    parameters = list(module.parameters())
    if not any(hasattr(p, "ds_id") for p in parameters):
        return
    from deepspeed import zero

    whole: list[Any] = []

    def enter(*_: Any) -> None:
        whole.append(zero.GatheredParameters(parameters))
        whole[-1].__enter__()

    def leave(*_: Any) -> None:
        whole.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)
