"""Update a sharded policy and put its weights where a vLLM server takes them; run under ``accelerate launch``.

``python publish.py MODEL DTYPE`` prints, for each of two versions, how many tensors arrived equal to the optimizer's
weights, and how far the sync check's log-probabilities are from those of the learner's own forward pass.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from r1rl.config import GRPOConfig, ModelConfig
from r1rl.distributed.processes import start
from r1rl.grpo.backend import places_weights
from r1rl.grpo.batch import Batch, Sample
from r1rl.grpo.learner import Learner
from r1rl.model.forward import PackedTokens
from r1rl.model.load import DTYPES, load_policy
from r1rl.rollout.vllm.carriers import SharedMemoryCarrier
from r1rl.rollout.vllm.sync_check import SyncCheck
from r1rl.rollout.vllm.weights import PolicyWeights


def main() -> None:
    torch.set_num_threads(1)
    accelerator = start("cpu", 40.0)
    model, dtype = sys.argv[1:]
    policy = load_policy(ModelConfig(path=model, dtype=dtype), accelerator.device, mapped=places_weights(accelerator))
    learner = Learner(
        policy, GRPOConfig(beta=0.0, learning_rate=1e-3), accelerator, dtype=dtype, temperature=1.0, max_length=8,
        total_updates=4, seed=0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    batch = Batch(
        [
            Sample(rng.integers(0, 100, 4), rng.integers(0, 100, 6), advantage, np.full(6, -5.0, np.float32))
            for advantage in (1.0, -1.0, 0.5, -0.5)
        ]
    )
    carrier = SharedMemoryCarrier(PolicyWeights(policy, DTYPES[dtype]), 4096, writes=accelerator.is_main_process)
    check = SyncCheck(policy, None if dtype == "float32" else DTYPES[dtype])
    tokens = PackedTokens.build(check.prompts, [1] * len(check.prompts), accelerator.device)
    for version in range(2):
        learner.update(batch)
        carrier.publish(version)
        whole = {name: tensor.to(DTYPES[dtype]) for name, tensor in learner.backend.weights()}
        expected = check.expect(version).logps
        with torch.no_grad():
            own = learner.backend.forward(tokens)[0].float().cpu().numpy()
        if accelerator.is_main_process:
            equal = sum(torch.equal(whole[name], tensor) for name, tensor in arrived(carrier, DTYPES[dtype]))
            print(f"version {version}: {equal} of {len(whole)} equal, {np.abs(own - expected).max():.1e} nats apart")
        accelerator.wait_for_everyone()
    carrier.close()


def arrived(carrier: SharedMemoryCarrier, dtype: torch.dtype):
    assert carrier.current is not None
    for request in carrier.current.requests():
        raw = torch.from_file(request["path"], size=request["size"], dtype=torch.uint8)
        for name, shape, at in zip(request["names"], request["shapes"], request["offsets"], strict=True):
            yield name, raw[at : at + torch.Size(shape).numel() * dtype.itemsize].view(dtype).view(shape)


if __name__ == "__main__":
    main()
