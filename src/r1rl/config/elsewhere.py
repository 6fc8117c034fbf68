"""Our names for the keys of TRL, open-r1 and verl: for error messages on unknown keys, and for docs/from-trl.md."""

from __future__ import annotations

from typing import NamedTuple


class Counterpart(NamedTuple):
    """Our counterpart of another framework's key."""

    ours: str = ""
    """Keys here, separated by commas; empty where there is none. ``SECTION`` is the one that the key was written in."""
    note: str = ""
    """How it differs, what to do instead, or why there is none."""


def _none(note: str, names: str) -> dict[str, Counterpart]:
    return {name: Counterpart("", note) for name in names.split()}


TRL: dict[str, Counterpart] = {
    "output_dir": Counterpart("output_dir", "the run folder is output_dir/name"),
    "learning_rate": Counterpart("grpo.learning_rate", "1e-6 there, 3e-6 (the paper's) here"),
    "lr_scheduler_type": Counterpart("grpo.lr_scheduler_type", "constant, linear or cosine"),
    "lr_scheduler_kwargs": Counterpart("grpo.lr_min_ratio", "where a decaying schedule ends, as a share"),
    "warmup_steps": Counterpart("grpo.warmup_updates", "a number of updates, never a share of them"),
    "weight_decay": Counterpart("grpo.weight_decay", "on matrices only"),
    "adam_beta1": Counterpart("grpo.adam_betas", "both in one list"),
    "adam_beta2": Counterpart("grpo.adam_betas", "0.999 there, 0.95 here"),
    "max_grad_norm": Counterpart("grpo.max_grad_norm"),
    "max_steps": Counterpart("grpo.steps", "rollouts, not updates"),
    "bf16": Counterpart("model.dtype", "bfloat16; master weights stay float32"),
    "model_init_kwargs": Counterpart("model.dtype, model.revision"),
    "trust_remote_code": Counterpart("model.trust_remote_code"),
    "cast_lm_head_to_fp32": Counterpart(
        "model.cast_lm_head_to_fp32", "on by default; weights stay as they are, tied ones too"
    ),
    "gradient_checkpointing": Counterpart("model.gradient_checkpointing"),
    "num_generations": Counterpart("rollout.group_size"),
    "num_generations_eval": Counterpart("evaluate.samples", "evaluation is pass@1 over k samples"),
    "max_completion_length": Counterpart("rollout.max_new_tokens"),
    "temperature": Counterpart("rollout.temperature", "the learner's logits are divided by it in both"),
    "top_p": Counterpart("rollout.top_p", "an error below 1 in training; free in `evaluate.top_p`"),
    "top_k": Counterpart("rollout.top_k", "an error above 0 in training; free in `evaluate.top_k`"),
    "generation_batch_size": Counterpart("rollout.prompts_per_step", "questions, not completions"),
    "steps_per_generation": Counterpart("grpo.minibatches", "updates per pass over a rollout, not micro-batches"),
    "num_iterations": Counterpart("grpo.epochs"),
    "beta": Counterpart("grpo.beta", "0 there, 0.001 (the paper's) here"),
    "epsilon": Counterpart("grpo.clip_low", "set `grpo.clip_high` too, which does not follow it"),
    "epsilon_high": Counterpart("grpo.clip_high", "for cispo the cap is 1 + clip_high here, epsilon_high there"),
    "loss_type": Counterpart(
        "grpo.loss", "dapo there, grpo here; bnpo is normalized over the whole update, not the device's batch"
    ),
    "importance_sampling_level": Counterpart("grpo.loss", "`sequence` is `gspo`"),
    "scale_rewards": Counterpart("grpo.scale_rewards"),
    "entropy_coef": Counterpart("grpo.entropy_coef"),
    "reward_weights": Counterpart("rewards.NAME.weight", "by name, not by position"),
    "mask_truncated_completions": Counterpart("grpo.mask_truncated", "masked ones still count in the denominator here"),
    "sync_ref_model": Counterpart(
        "grpo.ref_update_every", "replaces the reference, as the paper does, without a mixture"
    ),
    "ref_model_sync_steps": Counterpart("grpo.ref_update_every", "updates"),
    "use_vllm": Counterpart("rollout.engine", "`vllm`, or the embedded `torch`"),
    "vllm_mode": Counterpart("rollout.vllm.mode"),
    "vllm_server_base_url": Counterpart("rollout.vllm.urls", "several servers; empty starts them for you"),
    "vllm_server_host": Counterpart("rollout.vllm.host", "of servers that r1rl starts"),
    "vllm_server_port": Counterpart("rollout.vllm.port", "of servers that r1rl starts"),
    "vllm_server_timeout": Counterpart("rollout.vllm.start_timeout_s"),
    "vllm_gpu_memory_utilization": Counterpart("rollout.vllm.gpu_memory_utilization"),
    "vllm_tensor_parallel_size": Counterpart("rollout.vllm.tensor_parallel_size"),
    "vllm_enable_sleep_mode": Counterpart("rollout.vllm.enable_sleep_mode"),
    "vllm_max_model_length": Counterpart(
        "rollout.vllm.args", "`{max_model_len: …}`, with any other argument of vLLM's engine"
    ),
    "vllm_importance_sampling_correction": Counterpart(
        "grpo.importance_cap", "for every engine, not only vLLM; 0 is off"
    ),
    "vllm_importance_sampling_clip_max": Counterpart("grpo.importance_cap", "2 here, per token, truncated"),
    "vllm_importance_sampling_cap": Counterpart("grpo.importance_cap", "2 here, per token, truncated"),
    "log_completions": Counterpart(
        "tracking.samples_per_step", "always to `samples.jsonl`, and to the services as a table"
    ),
    "num_completions_to_print": Counterpart("evaluate.show"),
    "report_to": Counterpart("tracking.report_to"),
    "run_name": Counterpart("tracking.run_name"),
    "project": Counterpart("tracking.project"),
    "disable_tqdm": Counterpart("tracking.console", "false is silent"),
    "save_strategy": Counterpart("grpo.checkpoint_every", "steps; 0 saves only at the end"),
    "save_steps": Counterpart("grpo.checkpoint_every", "rollouts, not updates"),
    "save_total_limit": Counterpart("grpo.keep_checkpoints"),
    "eval_strategy": Counterpart("grpo.eval_every", "steps; 0 is never"),
    "eval_steps": Counterpart("grpo.eval_every", "rollouts, not updates"),
    "per_device_eval_batch_size": Counterpart(
        "rollout.max_concurrent", "sequences decoded at once; `evaluate.batch_size` in a stage of kind evaluate"
    ),
    "push_to_hub": Counterpart("hub.repo", "once, the final model of the run"),
    "hub_model_id": Counterpart("hub.repo"),
    "hub_private_repo": Counterpart("hub.private"),
    "seed": Counterpart("seed"),
    "data_seed": Counterpart("seed", "one seed for everything"),
    "use_cpu": Counterpart("device", "`cpu`"),
    "deepspeed": Counterpart("stages.NAME.launch", "an `accelerate` configuration, or zero1, zero2, zero3"),
    "accelerator_config": Counterpart("stages.NAME.launch", "an `accelerate` configuration"),
    "parallelism_config": Counterpart("grpo.sequence_parallel", "ZeRO comes with `stages.NAME.launch`"),
    "ddp_timeout": Counterpart("grpo.deadline_s"),
    **_none(
        "follows from `grpo.tokens_per_microbatch`, the budget of tokens that fit into memory at once",
        "per_device_train_batch_size gradient_accumulation_steps auto_find_batch_size",
    ),
    **_none("set `grpo.steps`, the number of rollouts; `r1rl check` prints what follows from it", "num_train_epochs"),
    **_none("always: a loss has one denominator over all processes", "average_tokens_across_devices"),
    **_none("always, from the seed", "shuffle_dataset"),
    **_none("the same command resumes", "resume_from_checkpoint"),
    **_none("always: a resumed run equals the uninterrupted one", "ignore_data_skip full_determinism"),
    **_none("always: everything is saved", "restore_callback_states_from_checkpoint save_only_model save_on_each_node"),
    **_none("always: the first Ctrl-C or SIGTERM saves", "enable_jit_checkpoint"),
    **_none("the best checkpoint is kept, the last model is handed on", "load_best_model_at_end"),
    **_none("`evaluate.reward` decides which checkpoint is the best", "metric_for_best_model greater_is_better"),
    **_none(
        "every step is logged, by the main process",
        "logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level "
        "log_level_replica include_num_input_tokens_seen skip_memory_metrics",
    ),
    **_none("add a stage of kind evaluate", "eval_on_start do_train do_eval do_predict"),
    **_none(
        "an evaluation samples completions and verifies them",
        "eval_delay prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps "
        "include_for_metrics batch_eval_metrics bf16_full_eval fp16_full_eval",
    ),
    **_none("log in with `hf auth login`, or set HF_TOKEN", "hub_token"),
    **_none("the final model is pushed once", "hub_strategy hub_always_push hub_revision"),
    **_none("PyTorch's AdamW", "optim optim_args optim_target_modules adam_epsilon"),
    **_none("use `model.dtype`: float32 or bfloat16", "fp16 tf32"),
    **_none("nothing is padded", "pad_to_multiple_of"),
    **_none("every column reaches the rewards", "remove_unused_columns label_names"),
    **_none(
        "the embedded engine keeps its own cache and removes finished sequences",
        "use_cache cache_implementation use_transformers_continuous_batching transformers_continuous_batching_config "
        "use_transformers_paged",
    ),
    **_none("rows are packed by their length", "train_sampling_strategy length_column_name"),
    **_none(
        "problems are read once and drawn by the seed",
        "dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
        "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order",
    ),
    **_none(
        "the launch configuration decides: `stages.NAME.launch`",
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend local_rank "
        "ds3_gather_for_generation",
    ),
    **_none("not supported; ZeRO comes with `stages.NAME.launch`", "fsdp fsdp_config"),
    **_none("chosen by r1rl", "vllm_group_port vllm_model_impl gradient_checkpointing_kwargs"),
    **_none("training runs without dropout; `model.lora.dropout` sets that of adapters", "disable_dropout"),
    **_none("that is what r1rl does with `sum_then_normalize`", "multi_objective_aggregation"),
    **_none(
        "left out on purpose: the learner computes the full distribution",
        "min_p repetition_penalty generation_kwargs vllm_structured_outputs_regex",
    ),
    **_none("the reference is replaced, never mixed", "ref_model_mixup_alpha"),
    **_none(
        "not there",
        "delta chat_template_kwargs top_entropy_quantile use_adaptive_entropy entropy_coef_min "
        "entropy_coef_max entropy_coef_delta entropy_target vllm_importance_sampling_mode "
        "vllm_importance_sampling_clip_min off_policy_mask_threshold use_bias_correction_kl router_aux_loss_coef "
        "max_tool_calling_iterations log_multimodal log_completions_hub_repo sapo_temperature_neg sapo_temperature_pos "
        "vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg label_smoothing_factor torch_compile "
        "torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config neftune_noise_alpha "
        "torch_empty_cache_steps trackio_space_id trackio_bucket_id trackio_static_space_id debug log_unique_prompts",
    ),
}
"""Every field of TRL's ``GRPOConfig``."""

TRAINERS: dict[str, Counterpart] = {
    "learning_rate": Counterpart("SECTION.learning_rate"),
    "num_train_epochs": Counterpart("SECTION.epochs"),
    "max_steps": Counterpart("", "set `SECTION.epochs`"),
    "warmup_steps": Counterpart("SECTION.warmup_ratio", "a share of the updates"),
    "weight_decay": Counterpart("SECTION.weight_decay", "on matrices only"),
    "max_grad_norm": Counterpart("SECTION.max_grad_norm"),
    "max_length": Counterpart("SECTION.max_tokens", "longer ones are left out and counted, not cut"),
    "per_device_train_batch_size": Counterpart("SECTION.micro_batch_size"),
    "gradient_accumulation_steps": Counterpart(
        "", "follows from `SECTION.batch_size`, over all processes, and `SECTION.micro_batch_size`"
    ),
    "save_steps": Counterpart("SECTION.checkpoint_every"),
    "save_strategy": Counterpart("SECTION.checkpoint_every", "0 keeps none"),
}
"""Fields of TRL's ``SFTConfig`` and ``RewardConfig``, in the sections `sft` and `reward_model`."""

SCRIPT: dict[str, Counterpart] = {
    "model_name_or_path": Counterpart("model.path"),
    "model_revision": Counterpart("model.revision"),
    "torch_dtype": Counterpart("model.dtype"),
    "use_peft": Counterpart("model.lora"),
    "lora_r": Counterpart("model.lora.rank"),
    "lora_alpha": Counterpart("model.lora.alpha"),
    "lora_dropout": Counterpart("model.lora.dropout"),
    "lora_target_modules": Counterpart("model.lora.target_modules"),
    "load_in_4bit": Counterpart("model.lora.quantize"),
    "dataset_name": Counterpart("data.train.NAME.path"),
    "dataset_config": Counterpart("data.train.NAME.subset"),
    "dataset_train_split": Counterpart("data.train.NAME.split"),
    "dataset_test_split": Counterpart("data.eval.NAME.split"),
    "dataset_mixture": Counterpart("data.train.NAME.weight", "several sources under `data.train`"),
    "train_dataset": Counterpart("data.train.NAME.path"),
    "eval_dataset": Counterpart("data.eval.NAME.path"),
    "reward_funcs": Counterpart("rewards.NAME.function", "`rewards: {accuracy: 1.0, format: 1.0}` names two"),
    "max_prompt_length": Counterpart("data.prompt.max_tokens", "a longer prompt is an error, or left out; never cut"),
    "warmup_ratio": Counterpart("grpo.warmup_updates", "a number of updates"),
    **_none("chosen by r1rl, per model and device", "attn_implementation"),
    **_none("not there", "load_in_8bit rollout_func"),
}
"""Arguments of TRL's scripts and trainers, and fields that earlier versions had."""

OPEN_R1: dict[str, Counterpart] = {
    "dataset_prompt_column": Counterpart("data.train.NAME.question"),
    "system_prompt": Counterpart("data.prompt.system"),
    "chat_template": Counterpart("data.prompt.template"),
    "benchmarks": Counterpart("data.eval.NAME.path", "measured by a stage of kind evaluate"),
    "wandb_project": Counterpart("tracking.project"),
    "cosine_max_len": Counterpart("rewards.NAME.args", "`max_length` of the reward cosine"),
    "cosine_min_value_correct": Counterpart("rewards.NAME.args", "`right` of the reward cosine: first and last value"),
    "cosine_max_value_correct": Counterpart("rewards.NAME.args", "`right` of the reward cosine: first and last value"),
    "cosine_min_value_wrong": Counterpart("rewards.NAME.args", "`wrong` of the reward cosine: first and last value"),
    "cosine_max_value_wrong": Counterpart("rewards.NAME.args", "`wrong` of the reward cosine: first and last value"),
    "repetition_n_grams": Counterpart("rewards.NAME.args", "`n` of the reward repetition"),
    "repetition_max_penalty": Counterpart("rewards.NAME.args", "`penalty` of the reward repetition"),
    **_none("set the environment variables WANDB_ENTITY and WANDB_RUN_GROUP", "wandb_entity wandb_run_group"),
    **_none("the final model is pushed once", "hub_model_revision overwrite_hub_revision push_to_hub_revision"),
    **_none(
        "write it as a function: `rewards.NAME.function`",
        "code_language code_eval_test_batch_size code_provider "
        "ioi_provider e2b_router_url morph_router_url parallel_code_exec_per_proc",
    ),
    **_none("not there", "callbacks wandb_log_unique_prompts"),
}
"""Of open-r1's ``GRPOConfig`` and ``GRPOScriptArguments``, what TRL's do not have."""

_ACTOR, _ROLLOUT, _MODEL = "actor_rollout_ref.actor.", "actor_rollout_ref.rollout.", "actor_rollout_ref.model."

VERL: dict[str, Counterpart] = {
    "data.train_files": Counterpart("data.train.NAME.path"),
    "data.val_files": Counterpart("data.eval.NAME.path"),
    "data.prompt_key": Counterpart("data.train.NAME.question"),
    "data.train_batch_size": Counterpart("rollout.prompts_per_step"),
    "data.val_batch_size": Counterpart("evaluate.batch_size", "sequences decoded at once"),
    "data.max_prompt_length": Counterpart("data.prompt.max_tokens"),
    "data.max_response_length": Counterpart("rollout.max_new_tokens"),
    "data.filter_overlong_prompts": Counterpart("data.prompt.too_long", "`skip`"),
    "data.truncation": Counterpart("data.prompt.too_long", "error or skip: a prompt is never cut"),
    "data.shuffle": Counterpart("", "always, from the seed"),
    "data.seed": Counterpart("seed"),
    _MODEL + "path": Counterpart("model.path"),
    _MODEL + "trust_remote_code": Counterpart("model.trust_remote_code"),
    _MODEL + "enable_gradient_checkpointing": Counterpart("model.gradient_checkpointing"),
    _MODEL + "lora_rank": Counterpart("model.lora.rank"),
    _MODEL + "lora_alpha": Counterpart("model.lora.alpha"),
    _MODEL + "target_modules": Counterpart("model.lora.target_modules"),
    _MODEL + "use_remove_padding": Counterpart("", "always: sequences are packed"),
    _ACTOR + "ppo_mini_batch_size": Counterpart(
        "grpo.minibatches", "how many, not how large: rollout.prompts_per_step divided by verl's"
    ),
    _ACTOR + "ppo_micro_batch_size_per_gpu": Counterpart("grpo.tokens_per_microbatch", "tokens, not sequences"),
    _ACTOR + "ppo_max_token_len_per_gpu": Counterpart("grpo.tokens_per_microbatch"),
    _ACTOR + "use_dynamic_bsz": Counterpart("", "always: `grpo.tokens_per_microbatch` is the budget"),
    _ACTOR + "ppo_epochs": Counterpart("grpo.epochs"),
    _ACTOR + "clip_ratio": Counterpart("grpo.clip_low, grpo.clip_high"),
    _ACTOR + "clip_ratio_low": Counterpart("grpo.clip_low"),
    _ACTOR + "clip_ratio_high": Counterpart("grpo.clip_high"),
    _ACTOR + "clip_ratio_c": Counterpart("", "not there"),
    _ACTOR + "loss_agg_mode": Counterpart("grpo.loss", "token-mean is dapo, seq-mean-token-mean grpo"),
    _ACTOR + "policy_loss.loss_mode": Counterpart("grpo.loss"),
    _ACTOR + "use_kl_loss": Counterpart("grpo.beta", "0 is off"),
    _ACTOR + "kl_loss_coef": Counterpart("grpo.beta"),
    _ACTOR + "kl_loss_type": Counterpart("", "always low_var_kl, the k3 estimate"),
    _ACTOR + "entropy_coeff": Counterpart("grpo.entropy_coef", "always a mean over tokens here"),
    _ACTOR + "grad_clip": Counterpart("grpo.max_grad_norm"),
    _ACTOR + "ulysses_sequence_parallel_size": Counterpart("grpo.sequence_parallel"),
    _ACTOR + "optim.lr": Counterpart("grpo.learning_rate"),
    _ACTOR + "optim.lr_warmup_steps": Counterpart("grpo.warmup_updates"),
    _ACTOR + "optim.lr_warmup_steps_ratio": Counterpart("grpo.warmup_updates", "a number of updates"),
    _ACTOR + "optim.warmup_style": Counterpart("grpo.lr_scheduler_type"),
    _ACTOR + "optim.min_lr_ratio": Counterpart("grpo.lr_min_ratio"),
    _ACTOR + "optim.betas": Counterpart("grpo.adam_betas"),
    _ACTOR + "optim.weight_decay": Counterpart("grpo.weight_decay"),
    _ROLLOUT + "n": Counterpart("rollout.group_size"),
    _ROLLOUT + "name": Counterpart("rollout.engine", "`vllm` or `torch`"),
    _ROLLOUT + "temperature": Counterpart("rollout.temperature"),
    _ROLLOUT + "top_p": Counterpart("rollout.top_p"),
    _ROLLOUT + "top_k": Counterpart("rollout.top_k", "0 is off here, -1 there"),
    _ROLLOUT + "response_length": Counterpart("rollout.max_new_tokens"),
    _ROLLOUT + "prompt_length": Counterpart("data.prompt.max_tokens"),
    _ROLLOUT + "gpu_memory_utilization": Counterpart("rollout.vllm.gpu_memory_utilization"),
    _ROLLOUT + "tensor_model_parallel_size": Counterpart("rollout.vllm.tensor_parallel_size"),
    _ROLLOUT + "max_num_seqs": Counterpart("rollout.max_concurrent"),
    _ROLLOUT + "max_model_len": Counterpart("rollout.vllm.args"),
    _ROLLOUT + "max_num_batched_tokens": Counterpart("rollout.vllm.args"),
    _ROLLOUT + "enforce_eager": Counterpart("rollout.vllm.args"),
    _ROLLOUT + "engine_kwargs.vllm": Counterpart("rollout.vllm.args"),
    _ROLLOUT + "free_cache_engine": Counterpart("rollout.vllm.enable_sleep_mode"),
    _ROLLOUT + "update_weights_bucket_megabytes": Counterpart("rollout.vllm.bucket_mb"),
    _ROLLOUT + "val_kwargs.n": Counterpart("evaluate.samples"),
    _ROLLOUT + "val_kwargs.temperature": Counterpart("evaluate.temperature"),
    _ROLLOUT + "val_kwargs.top_p": Counterpart("evaluate.top_p"),
    _ROLLOUT + "log_prob_micro_batch_size_per_gpu": Counterpart(
        "grpo.logprob_chunk", "tokens whose logits exist at once"
    ),
    "algorithm.adv_estimator": Counterpart("grpo.algorithm"),
    "algorithm.norm_adv_by_std_in_grpo": Counterpart("grpo.scale_rewards", "group or none"),
    "algorithm.use_kl_in_reward": Counterpart("", "the KL term is part of the loss: `grpo.beta`"),
    "algorithm.kl_ctrl.kl_coef": Counterpart("grpo.beta", "in the loss, not in the reward"),
    "algorithm.filter_groups.enable": Counterpart("grpo.dynamic_sampling"),
    "algorithm.filter_groups.metric": Counterpart("rollout.dynamic_sampling.reward"),
    "algorithm.filter_groups.max_num_gen_batches": Counterpart("rollout.dynamic_sampling.max_rounds"),
    "custom_reward_function.path": Counterpart("rewards.NAME.function", "`path/to/file.py:function`"),
    "custom_reward_function.name": Counterpart("rewards.NAME.function", "`path/to/file.py:function`"),
    "trainer.total_training_steps": Counterpart("grpo.steps"),
    "trainer.total_epochs": Counterpart("", "set `grpo.steps`, the number of rollouts"),
    "trainer.project_name": Counterpart("tracking.project"),
    "trainer.experiment_name": Counterpart("name"),
    "trainer.logger": Counterpart("tracking.report_to"),
    "trainer.log_val_generations": Counterpart("tracking.samples_per_step"),
    "trainer.nnodes": Counterpart("stages.NAME.launch", "an `accelerate` configuration"),
    "trainer.n_gpus_per_node": Counterpart("stages.NAME.launch", "an `accelerate` configuration"),
    "trainer.save_freq": Counterpart("grpo.checkpoint_every"),
    "trainer.test_freq": Counterpart("grpo.eval_every"),
    "trainer.max_actor_ckpt_to_keep": Counterpart("grpo.keep_checkpoints"),
    "trainer.default_local_dir": Counterpart("output_dir"),
    "trainer.resume_mode": Counterpart("", "the same command resumes"),
    "trainer.device": Counterpart("device"),
    "critic": Counterpart("", "GRPO has no critic"),
}
"""The main keys of verl's ``ppo_trainer.yaml``, by their full path."""

TABLES = {
    "TRL: GRPOConfig": TRL,
    "TRL: SFTConfig, and RewardConfig with reward_model in place of sft": TRAINERS,
    "TRL: scripts and trainers": SCRIPT,
    "open-r1": OPEN_R1,
    "verl": VERL,
}

_VERL_SECTIONS = frozenset(part for key in VERL for part in key.split(".")[:-1]) - {"data"}


def explained(key: tuple[str, ...], value: object) -> str:
    """Our name for an unknown key, if TRL, open-r1 or verl have it; empty if they do not.

    Args:
        key: its path, without the stage that it was written in.
        value: its value; in a section of verl's, the keys in it are looked up.
    """
    section, name = key[0] if len(key) > 1 else "", key[-1]
    for source, table in (
        ("TRL", TRAINERS if section in ("sft", "reward_model") else {}),
        ("TRL", TRL),
        ("TRL", SCRIPT),
        ("open-r1", OPEN_R1),
    ):
        if name in table:
            return _sentence(source, name, table[name], section)
    found = [_sentence("verl", whole, VERL[whole], "") for whole in map(_in_verl, _leaves(key, value)) if whole]
    if found:
        return "; ".join(found[:3])
    return f"verl's {name}: its keys are in several of our sections" if name in _VERL_SECTIONS else ""


def _sentence(source: str, name: str, here: Counterpart, section: str) -> str:
    ours, note = (text.replace("SECTION", section).replace("`", "") for text in here)
    if not ours:
        return f"{source}'s {name}: {note}"
    return f"{source}'s {name} is {' and '.join(ours.split(', '))} here" + (f"; {note}" if note else "")


def _leaves(key: tuple[str, ...], value: object) -> list[str]:
    if isinstance(value, dict) and value:
        return [".".join(key), *(leaf for name, inner in value.items() for leaf in _leaves((*key, str(name)), inner))]
    return [".".join(key)]


def _in_verl(dotted: str) -> str:
    """The full path of verl's key that equals this one, ends with it, or has its last name, if that is of two words or
    more."""
    name = dotted.rpartition(".")[2]
    ends = [f".{dotted}"] * ("." in dotted) + [f".{name}"] * ("_" in name)
    return dotted if dotted in VERL else next((whole for end in ends for whole in VERL if whole.endswith(end)), "")
