"""How completions are sampled."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from r1rl.config.base import NameIn, Section
from r1rl.registry import ENGINES


class DynamicSamplingConfig(Section):
    """Replace groups without a learning signal: all correct, or all wrong (DAPO, arXiv 2503.14476, section 3.2)."""

    max_rounds: int = Field(4, ge=1)
    """Rounds of sampling after which the step proceeds with the useful groups it has; with none it learns nothing."""
    reward: str | None = None
    """Reward whose values must differ within a group: for one of 0 and 1, DAPO's 0 < correct < G. None takes
    evaluate.reward (accuracy); where that is not configured or does not apply to a group, the sum of all rewards."""
    min_std: float = Field(1e-6, ge=0)
    """A group in which its standard deviation, or that of the sum, is smaller is not useful."""
    oversample: float = Field(1.0, ge=1)
    """Groups requested at once, as a multiple of the missing ones. The first useful ones are taken; the rest are
    aborted, or kept for the next step where max_staleness allows it."""


class VLLMConfig(Section):
    """How vLLM runs; read where rollout.engine is vllm."""

    former_names: ClassVar = {
        "tensor_parallel": "tensor_parallel_size",
        "gpu_memory": "gpu_memory_utilization",
        "sleep": "enable_sleep_mode",
    }

    mode: Literal["colocate", "server"] = "colocate"
    """colocate: in the trainer's process, on its device. server: separate processes, on this machine or others."""
    urls: list[str] = Field(default_factory=list)
    """Servers that are already running (see launch/vllm); empty launches them."""
    servers: int = Field(1, ge=1)
    """Servers to launch where urls is empty. Each takes tensor_parallel_size GPUs of this machine, after those of the
    training processes."""
    launcher: str | None = None
    """Command that starts one server, for example launch/vllm/serve.sh; it gets vLLM's arguments, --host, --port and
    --owner. None starts it on this machine."""
    host: str = "127.0.0.1"
    """Address a launched server listens on. The weight routes have no password, so keep it private."""
    port: int = Field(0, ge=0, le=65535)
    """Port of the first launched server; 0 and taken ports are replaced by free ones."""
    api_key_env: str = "VLLM_API_KEY"
    """Environment variable that holds the key of the servers under urls."""
    transfer: Literal["auto", "direct", "shm", "nccl", "ipc"] = "auto"
    """How weights are sent. auto: colocated direct, to an engine in the trainer's process; to servers NCCL on GPUs and
    shared memory on a CPU. ipc: colocated on a GPU in a process of its own, by CUDA IPC."""
    bucket_mb: int = Field(256, ge=1)
    """Weights per request of shm and ipc, MB; a larger tensor travels alone."""
    in_flight: Literal["recompute", "keep"] = "recompute"
    """Cached keys and values of completions that are running when weights change: recomputed, or kept."""
    tensor_parallel_size: int = Field(1, ge=1)
    """GPUs per server; colocated it must be 1."""
    gpu_memory_utilization: float | None = Field(None, gt=0, le=1)
    """Fraction of a GPU's memory that vLLM may use; None is 0.4 colocated, 0.9 for a launched server."""
    kv_cache_gb: int = Field(2, ge=1)
    """Memory for keys and values on the CPU build, GB."""
    enable_sleep_mode: bool = True
    """Colocated on a GPU: free vLLM's memory for the learner while nothing is sampled."""
    threads: int | None = Field(None, ge=1)
    """CPU threads of a launched server; None leaves vLLM's choice, or shares the cores with the learner where both
    work at the same time (max_staleness)."""
    seeded: bool = True
    """Pass each request's seed to vLLM, so that runs are reproducible; off is faster with some versions of vLLM."""
    check_tolerance: float | None = Field(None, gt=0)
    """Largest mean |Δ log p| between engine and learner after a sync, nats. None is 1e-3 in float32; in bfloat16 it is
    derived from how far rounding moves this model's log-probabilities, measured at the first sync."""
    start_timeout_s: float = Field(600.0, gt=0)
    """Deadline for a server to start."""
    request_timeout_s: float | None = Field(None, gt=0)
    """Deadline for one group, after which it is requested from another server; None is 0.1 s per token of the longest
    completion, at least 600."""
    sync_timeout_s: float = Field(300.0, gt=0)
    """Deadline for each step of a weight sync."""
    probe_every_s: float = Field(10.0, gt=0)
    """Seconds between health probes, each of which generates one token."""
    probe_timeout_s: float = Field(60.0, gt=0)
    """A server that does not answer its probe within this time counts as dead."""
    max_attempts: int = Field(10, ge=1)
    """Times one group is requested before the run ends with an error."""
    max_restarts: int = Field(10, ge=0)
    """Times a launched server is restarted before it is abandoned. A given one (urls) is abandoned after as many
    failed waits in a row, each of at most start_timeout_s."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's engine by their Python names, for example max_model_len."""

    @property
    def gpu_share(self) -> float:
        """``gpu_memory_utilization`` with its default, which depends on the mode."""
        return self.gpu_memory_utilization or {"colocate": 0.4, "server": 0.9}[self.mode]


class RolloutConfig(Section):
    """The engine that samples completions, and how it samples."""

    former_names: ClassVar = {"prompts": "prompts_per_step"}

    engine: Annotated[str, NameIn(ENGINES)] = "auto"
    """torch: embedded, on the policy's own weights. vllm: colocated or served. auto: vllm where it is installed and the
    run finds a GPU, else torch; decided once at the start and written to RUN/config.yaml. For your own, see
    docs/extending.md."""
    prompts_per_step: int = Field(32, ge=1)
    """Questions per step (paper: 32, or 512 drawn at once and split into 16 minibatches)."""
    group_size: int = Field(16, ge=1)
    """Completions per question, G (paper: 16)."""
    max_new_tokens: int = Field(1024, ge=1)
    """Longest completion, in tokens; a longer one is cut and counts as truncated."""
    temperature: float = Field(1.0, gt=0)
    """The learner's logits are divided by it too."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Must be 1 in training: the learner computes probabilities under the full distribution."""
    top_k: int = Field(0, ge=0)
    """Must be 0 (off) in training, for the same reason."""
    stop: list[str] = Field(default_factory=list)
    """Strings that end a completion; they are kept in its text."""
    max_concurrent: int = Field(256, ge=1)
    """Sequences that one engine decodes at once."""
    max_staleness: int = Field(0, ge=0)
    """Oldest policy, in steps, whose samples may still be trained on; 0 is strictly on-policy. A step is one sync, of
    minibatches × epochs updates."""
    vllm: VLLMConfig = Field(default_factory=VLLMConfig)
    dynamic_sampling: DynamicSamplingConfig = Field(default_factory=DynamicSamplingConfig)
    """Bounds of dynamic sampling; grpo.dynamic_sampling switches it on."""
