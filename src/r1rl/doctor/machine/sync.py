"""The engine's policy is the learner's: while it samples, and after weights were sent to it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from r1rl.doctor.machine.device import change, device, dtypes, random_policy
from r1rl.doctor.machine.findings import Findings
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy
from r1rl.rollout.engine import Engine, Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.rollout.vllm.carriers import SharedMemoryCarrier
from r1rl.rollout.vllm.sync_check import SyncCheck, SyncError
from r1rl.rollout.vllm.weights import PolicyWeights
from r1rl.types import Completion, Problem, SamplingParams

SAMPLED = 32
"""Tokens per completion."""
UPDATE = 0.02
"""Standard deviation of the noise that stands for an update."""


def mismatch(found: Findings) -> None:
    """Log-probabilities that the embedded engine reports of what it sampled, against the learner's pass over it."""
    for dtype in dtypes():
        policy = random_policy("tiny")
        autocast = None if dtype == torch.float32 else dtype
        engine, check = TorchEngine(policy, 64, autocast), SyncCheck(policy, autocast)
        for version in range(2):
            change(policy, UPDATE, version)
            engine.sync(version)
            check.expect(version)  # measures what rounding does
            gap, largest = sampled_gap(engine, policy, autocast)
            name = f"{str(dtype).removeprefix('torch.')}, version {version}"
            found.at_most(f"{name}: mean |Δ log p|, nats", gap, check.tolerance)
            found.note(f"{name}: largest", largest)
            found.summary = f"{gap:.1e} nats in {name.partition(',')[0]}, {check.tolerance:.1e} allowed"


def sampled_gap(engine: Engine, policy: Policy, autocast: torch.dtype | None, count: int = 8) -> tuple[float, float]:
    """Mean and largest |Δ log p| of sampled tokens, nats."""
    requests = prompts(policy, count)
    groups = complete(engine, requests, SamplingParams(SAMPLED))
    prompt_ids = [list(r.problem.prompt_ids) for r in requests for _ in r.seeds]
    completions = [c for group in groups for c in group]
    gaps = np.abs(learner_logps(policy, prompt_ids, completions, autocast) - served_logps(completions))
    return float(gaps.mean()), float(gaps.max())


def prompts(policy: Policy, count: int, group: int = 4) -> list[Request]:
    """Questions about sums, each with seeds for ``group`` completions."""
    texts = [f"User: What is {i} + {i + 3}?\nAssistant:" for i in range(count)]
    return [
        Request(Problem(str(i), tuple(policy.tokenizer.encode(text)), text), tuple(range(i * group, (i + 1) * group)))
        for i, text in enumerate(texts)
    ]


def served_logps(completions: Sequence[Completion]) -> np.ndarray:
    """[C] float32: what the engine reported, completion by completion."""
    return np.concatenate([completion.logps for completion in completions])


@torch.no_grad()
def learner_logps(
    policy: Policy, prompt_ids: Sequence[list[int]], completions: Sequence[Completion], autocast: torch.dtype | None
) -> np.ndarray:
    """[C] float32: the learner's log-probabilities of the same tokens."""
    sequences = [prompt + c.token_ids.tolist() for prompt, c in zip(prompt_ids, completions, strict=True)]
    packed = PackedTokens.build(sequences, [len(prompt) for prompt in prompt_ids], policy.model.device)
    logps_C, _ = PolicyForward(policy.model, 1.0, 4096, autocast)(packed)
    values: np.ndarray = logps_C.float().cpu().numpy()
    return values


def weight_sync(found: Findings) -> None:
    """Weights go through shared memory to a second implementation, and :class:`SyncCheck` compares the two sides; then
    a tensor is held back, which it has to notice."""
    for dtype in dtypes():
        name = str(dtype).removeprefix("torch.")
        policy = random_policy("tiny")
        autocast = None if dtype == torch.float32 else dtype
        receiver, check = Receiver(policy, dtype), SyncCheck(policy, autocast)
        with contextlib.closing(SharedMemoryCarrier(PolicyWeights(policy, dtype), 1 << 16, writes=True)) as carrier:
            for version in range(3):
                change(policy, UPDATE, version)
                carrier.publish(version)
                carrier.deliver([receiver], version)
                gap = check.compare(
                    "the receiver", check.expect(version), receiver.version(), receiver.score(check.prompts)
                )
                found.at_most(f"{name}, version {version}: mean |Δ log p|, nats", gap, check.tolerance)
            found.summary = f"{gap:.1e} nats in {name}, {check.tolerance:.1e} allowed"
            change(policy, 3 * UPDATE, 3)
            carrier.publish(3)
            receiver.ignored = "embed_tokens"
            carrier.deliver([receiver], 3)
            found.require(_noticed(check, receiver), f"{name}: a tensor that did not arrive was not noticed")


def _noticed(check: SyncCheck, receiver: Receiver) -> bool:
    try:
        check.compare("the receiver", check.expect(3), receiver.version(), receiver.score(check.prompts))
    except SyncError:
        return True
    return False


class Receiver:
    """Stands for an engine in another process: transformers' own attention, every value in ``dtype``, weights from the
    shared file alone."""

    def __init__(self, policy: Policy, dtype: torch.dtype) -> None:
        self.model = copy.deepcopy(policy.model).to(dtype)  # type: ignore[arg-type]
        self.model.set_attn_implementation("eager")
        self.ignored: str | None = None
        """Part of the name of a tensor that is not taken."""
        self._version = ""

    def init_weight_transfer_engine(self, init_info: dict[str, object]) -> None:
        """Nothing to open."""

    def start_weight_update(self) -> None:
        """Nothing to prepare."""

    @torch.no_grad()
    def update_weights(self, update_info: dict[str, object]) -> None:
        own = dict(self.model.named_parameters())
        for name, tensor in _read(update_info):
            if self.ignored is None or self.ignored not in name:
                own[name].copy_(tensor)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._version = weight_version or ""

    def workers(self) -> int:
        return 1

    def version(self) -> str:
        return self._version

    @torch.no_grad()
    def score(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities of each prompt's tokens but the first."""
        rows = []
        for prompt in prompts:
            ids = torch.tensor([list(prompt)], device=device())
            logps = self.model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            rows.append(logps.gather(-1, ids[0, 1:, None])[:, 0].tolist())
        return rows


def _read(update_info: dict[str, object]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one request, from the file that it names."""
    info: dict[str, list[object]] = update_info  # type: ignore[assignment]
    raw = torch.from_file(str(info["path"]), size=int(str(info["size"])), dtype=torch.uint8)
    rows = zip(info["names"], info["dtypes"], info["shapes"], info["offsets"], strict=True)
    for name, dtype, dims, at in rows:
        kind: torch.dtype = getattr(torch, str(dtype))
        size = torch.Size(dims)  # type: ignore[arg-type]
        begin = int(str(at))
        yield str(name), raw[begin : begin + size.numel() * kind.itemsize].view(kind).view(size)
