"""Estimates the memory of one rank, by part, before anything starts. Does not import torch.

Sizes follow from how the parts are held (ZeRO: arXiv 1910.02054, section 3): N parameters, float32 master weights and
two averages of AdamW, sharded or not; activations from the shapes of a transformer block.
"""

from __future__ import annotations

from dataclasses import dataclass

from r1rl.config import RunConfig
from r1rl.config.applied import training_rewards
from r1rl.config.derived import derive

GIB = 2**30
RUNTIME_BYTES = {"cpu": 0.45 * GIB, "cuda": 1.0 * GIB}
"""Interpreter and libraries; on a GPU its context and workspaces."""
REDUCE_BUCKET = 500_000_000
"""Values in the buffer from which DeepSpeed reduces gradients, its default; allocated whole for any model."""

ASLEEP_BYTES = 2.0 * GIB
"""What a sleeping vLLM keeps on its GPU: context, communicators, CUDA graphs. Assumed, from what its log reports as
still in use; not measured here."""

ENGINE_BYTES = 2.5 * GIB
"""Of vLLM's share, what is neither weights nor cache: activations of a pass, CUDA graphs, context. Assumed."""

MIXED_BYTES = 2.5
"""Bytes per saved value where float32 weights are used in bfloat16, with norms and residuals in float32. Measured."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only transformer."""

    parameters: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int

    @classmethod
    def of(
        cls,
        hidden: int,
        layers: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        intermediate: int,
        vocabulary: int,
        tied: bool,
    ) -> Shape:
        """Counts the parameters too: gated feed-forward, biases left out."""
        block = 2 * hidden * (heads + kv_heads) * head_dim + 3 * hidden * intermediate + 2 * hidden
        parameters = layers * block + hidden * vocabulary * (1 if tied else 2)
        return cls(parameters, hidden, layers, heads, kv_heads, head_dim, intermediate, vocabulary)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one part, and the key that changes it most."""

    name: str
    bytes: float
    knob: str


def estimate(
    run: RunConfig, shape: Shape, ranks: int, stage: int, bucket: int = REDUCE_BUCKET, gpu_bytes: float = 0.0
) -> list[Part]:
    """Peak memory of one rank of a grpo stage. Learner and engine take turns, so the larger of them counts.

    Args:
        run: the configuration as that stage sees it.
        ranks: processes that share the model's state.
        stage: of ZeRO; 0 is one process or DDP.
        bucket: values of DeepSpeed's buffer that take memory; on a CPU only those that are written to.
        gpu_bytes: memory of the rank's GPU, of which a colocated vLLM takes a share; 0 without one.
    """
    trained = _lora_parameters(run, shape) if run.model.lora else shape.parameters
    low = 2 if run.model.dtype == "bfloat16" and stage else 4  # without DeepSpeed, weights stay in float32
    state, sharded = (ranks if stage >= 1 else 1), (ranks if stage >= 2 else 1)
    weight = ranks if stage >= 3 else 1
    master = 4 * trained / state if stage else 0
    reference = 4 * shape.parameters / weight if run.grpo.beta > 0 and not run.model.lora else 0
    replica = 4 * shape.parameters if stage >= 3 and _embedded(run) else 0
    buckets = 4 * trained / sharded if ranks > 1 else 0  # what reduces gradients keeps a copy of them
    gradients = 4 * trained + buckets if ranks == 1 or not stage else buckets
    # The head in float32: a copy of weights that are of lower precision, and its gradient.
    copied = 4 * shape.hidden * shape.vocabulary if low == 2 and run.model.cast_lm_head_to_fp32 else 0
    colocated = run.rollout.engine == "vllm" and run.rollout.vllm.mode == "colocate"
    share = run.rollout.vllm.gpu_share * gpu_bytes if colocated else 0.0
    asleep = min(ASLEEP_BYTES, share) if run.rollout.vllm.enable_sleep_mode else share
    learner = [
        Part("output head in float32", 2 * copied, "model.cast_lm_head_to_fp32: false"),
        Part("gradients", gradients, "ZeRO-2 shards them: launch/accelerate/zero2.yaml"),
        Part(
            "vLLM, asleep" if run.rollout.vllm.enable_sleep_mode else "vLLM's share",
            asleep,
            "rollout.vllm.gpu_memory_utilization, rollout.vllm.enable_sleep_mode",
        ),
        *_learner(run, shape, whole=low == 4),
    ]
    sampler = [
        Part("output head in float32", 0 if replica else copied, "model.cast_lm_head_to_fp32: false"),
        Part("gradients", buckets, "ZeRO-2 shards them: launch/accelerate/zero2.yaml"),
        Part("vLLM's share", share, "rollout.vllm.gpu_memory_utilization"),
        *_sampler(run, shape),
    ]
    return [
        Part("weights", low * shape.parameters / weight + master, "ZeRO-3 shards them: launch/accelerate/zero3.yaml"),
        Part("reduction buffer", low * bucket if stage else 0, "reduce_bucket_size in a deepspeed_config_file"),
        Part("optimizer", 8 * trained / state, "ZeRO-1 shards it; model.lora makes it small"),
        Part("reference", reference, "grpo.beta: 0 needs none; model.lora needs no copy"),
        Part("engine's copy", replica, "rollout.engine: vllm on GPUs of its own"),
        Part("reward models", shape.parameters * sum(_judges(run)), "rewards.NAME.args: dtype, device"),
        *max(learner, sampler, key=_total),
    ]


@dataclass(frozen=True, slots=True)
class Served:
    """What vLLM's share of one GPU holds."""

    weights: float
    """Bytes of the engine's own copy."""
    token: float
    """Bytes of keys and values per token."""
    sequences: int
    """Sequences at their limit that fit beside the weights; negative where not even those fit."""


def served(run: RunConfig, shape: Shape, gpu_bytes: float) -> Served:
    """The contents of ``rollout.vllm.gpu_memory_utilization`` of a GPU of ``gpu_bytes``."""
    vllm = run.rollout.vllm
    head = 4 * shape.hidden * shape.vocabulary if _width(run) == 2 and run.model.cast_lm_head_to_fp32 else 0
    weights = (_width(run) * shape.parameters + head) / vllm.tensor_parallel_size
    shards = min(vllm.tensor_parallel_size, shape.kv_heads)  # more GPUs than heads hold copies of them
    token = 2 * shape.kv_heads * shape.head_dim * shape.layers * _width(run) / shards
    left = vllm.gpu_share * gpu_bytes - weights - ENGINE_BYTES
    return Served(weights, token, int(left // (token * derive(run).max_sequence_tokens)))


def _total(parts: list[Part]) -> float:
    return sum(part.bytes for part in parts)


def _learner(run: RunConfig, shape: Shape, whole: bool) -> list[Part]:
    """What one micro-batch takes; ``whole`` where the weights are float32, whatever passes use them in."""
    mixed = whole and run.model.dtype == "bfloat16"
    tokens = max(run.grpo.tokens_per_microbatch, derive(run).max_sequence_tokens)
    tokens = -(-min(tokens, derive(run).max_tokens_per_step) // run.grpo.sequence_parallel)
    block = 8 * shape.hidden + 2 * (shape.heads + shape.kv_heads) * shape.head_dim + 4 * shape.intermediate
    width, stream = (MIXED_BYTES, 4) if mixed else (_width(run), _width(run))
    # A chunk's logits and their gradient, and that of the head over all chunks, before it joins the others.
    logits: float = 2 * 4 * min(run.grpo.logprob_chunk, tokens) * shape.vocabulary
    head = 4 * shape.hidden * shape.vocabulary if whole and not run.model.lora else 0
    layer = tokens * width * block
    if run.model.gradient_checkpointing:
        activations = tokens * stream * shape.hidden * shape.layers + layer
        logits = max(0, logits + head - layer)  # a layer is computed again once the head is through
    else:
        activations, logits = layer * shape.layers, logits + head
    return [
        Part(
            "activations",
            activations,
            "grpo.tokens_per_microbatch, model.gradient_checkpointing, grpo.sequence_parallel",
        ),
        Part("logits of a chunk", logits, "grpo.logprob_chunk"),
    ]


def _sampler(run: RunConfig, shape: Shape) -> list[Part]:
    """What the embedded engine takes while it samples: its cache, a quarter larger than the longest sequences and
    copied layer by layer when it grows, and the projections that it fuses."""
    if not _embedded(run):
        return []
    sequences = min(run.rollout.max_concurrent, derive(run).completions_per_step)
    token = 2 * shape.kv_heads * shape.head_dim * _width(run)
    cache = 1.25 * sequences * derive(run).max_sequence_tokens * token * (shape.layers + 1)
    rows = (shape.heads + 2 * shape.kv_heads) * shape.head_dim + 2 * shape.intermediate
    joined = 0 if run.model.lora else _width(run) * shape.layers * shape.hidden * rows
    return [
        Part("key-value cache", cache, "rollout.max_concurrent, rollout.max_new_tokens"),
        Part("joined projections", joined, "rollout.engine: vllm on GPUs of its own"),
    ]


def _judges(run: RunConfig) -> list[int]:
    """Bytes per parameter of the reward models that score on the policy's GPU; assumed to be as large as the policy."""
    here = [
        reward.args for name, reward in training_rewards(run).items() if (reward.function or name) == "reward_model"
    ]
    return [2 if args.get("dtype") in ("bfloat16", "float16") else 4 for args in here if "device" not in args]


def _embedded(run: RunConfig) -> bool:
    """Whether the embedded engine samples; ``auto`` is taken for it, so decide before, for a GPU with vLLM."""
    return run.rollout.engine in ("torch", "auto")


def _width(run: RunConfig) -> int:
    """Bytes per value in forward and backward passes."""
    return 2 if run.model.dtype == "bfloat16" else 4


def _lora_parameters(run: RunConfig, shape: Shape) -> int:
    assert run.model.lora is not None
    attention = (shape.heads + 2 * shape.kv_heads) * shape.head_dim + 3 * shape.hidden
    attention += shape.heads * shape.head_dim + shape.hidden
    feed_forward = 3 * (shape.hidden + shape.intermediate)
    return run.model.lora.rank * shape.layers * (attention + feed_forward)
