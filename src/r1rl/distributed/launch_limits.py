"""Unsupported settings of a launch file, rejected before anything starts."""

from __future__ import annotations

from collections.abc import Mapping

from r1rl.errors import ConfigError

_SPLITS = {
    "PARALLELISM_CONFIG_SP_SIZE": "sequence parallelism (parallelism_config_sp_size)",
    "PARALLELISM_CONFIG_CP_SIZE": "context parallelism (parallelism_config_cp_size)",
    "PARALLELISM_CONFIG_TP_SIZE": "tensor parallelism (parallelism_config_tp_size)",
}
_SHARDERS = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def check_launch(environment: Mapping[str, str]) -> None:
    """Reject settings of an ``accelerate`` launch file that r1rl would otherwise silently ignore.

    Raises:
        ConfigError: names the key and what to use instead.
    """
    for name, what in _SPLITS.items():
        if int(environment.get(name) or 1) > 1:
            raise ConfigError(
                f"the launch file asks for {what}, which r1rl does not read from there. Set it to 1, and for samples "
                "that do not fit use grpo.sequence_parallel, model.gradient_checkpointing: true, ZeRO-3 "
                "(launch/accelerate/zero3.yaml) or a lower rollout.max_new_tokens; `r1rl doctor` estimates the memory"
            )
    for name, what in _SHARDERS.items():
        if environment.get(name, "").lower() == "true":
            raise ConfigError(
                f"the launch file asks for {what}; r1rl shards by DeepSpeed: use one of launch/accelerate/zero1.yaml, "
                "zero2.yaml, zero3.yaml"
            )
