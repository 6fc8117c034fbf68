"""Adapters: what they compute, what a run trains, what it leaves, and what it says where it cannot."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from r1rl import GRPOTrainer
from r1rl.config import GRPOConfig, ModelConfig, RunConfig, TinyModelConfig
from r1rl.errors import ConfigError, ModelError
from r1rl.fingerprint.mark import read as read_mark
from r1rl.grpo.checkpoint import Checkpoints
from r1rl.grpo.learner import Learner
from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.model.load import Policy, load_policy
from r1rl.model.lora import adapters_off
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from r1rl.tracking.console import Console

CPU = torch.device("cpu")
TOKENS = PackedTokens.build([list(range(3, 33)), list(range(5, 12))], [4, 2], CPU)
REWARDS = """
def digits(prompts, completions, **kwargs):
    return [min(1.0, sum(ch.isdigit() for ch in c) / 6) for c in completions]
"""
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed: pip install bitsandbytes"
)


def logps(policy: Policy) -> Tensor:
    return PolicyForward(policy.model, 1.0, 16)(TOKENS)[0].detach()


def opened(folder: Path, **lora: object) -> Policy:
    return load_policy(ModelConfig(path=str(folder), lora={"rank": 4, **lora}), CPU, adapters_seed=1)


def trained_adapters(policy: Policy) -> Policy:
    """As if training had moved them far."""
    generator = torch.Generator().manual_seed(2)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


@pytest.fixture
def config(tiny_folder: Path, tmp_path: Path) -> Callable[..., RunConfig]:
    (tmp_path / "rewards.py").write_text(REWARDS)

    def made(steps: int = 2, beta: float = 0.0, dropout: float = 0.0, **model: object) -> RunConfig:
        lora = {"rank": 4, "dropout": dropout, **model.pop("lora", {})}
        return RunConfig(
            device="cpu",
            model={"path": str(tiny_folder), "lora": lora, **model},
            data={
                "train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train", "size": 40}}},
                "prompt": {"template": "r1_zero", "system": ""},
            },
            rewards={"digits": {"function": f"{tmp_path / 'rewards.py'}:digits"}},
            rollout={"prompts_per_step": 4, "group_size": 4, "max_new_tokens": 12},
            grpo={"steps": steps, "learning_rate": 1e-2, "beta": beta, "minibatches": 2, "checkpoint_every": 1},
            tracking={"console": False},
        )

    return made


def train(cfg: RunConfig, folder: Path) -> tuple[GRPOTrainer, dict[str, float]]:
    trainer = GRPOTrainer(cfg, folder, accelerator=Accelerator(cpu=True), console=Console(quiet=True))
    return trainer, trainer.train()


def saved(folder: Path) -> dict[str, Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()


def test_fresh_adapters_change_nothing_and_follow_from_the_seed(tiny_folder, tiny_policy):
    policy, again = opened(tiny_folder), opened(tiny_folder)
    assert torch.equal(logps(policy), logps(tiny_policy))
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in policy.model.state_dict().items())


@pytest.mark.parametrize("tied", [True, False])
def test_merged_weights_compute_the_same(tiny_folders, tmp_path, tied):
    policy = trained_adapters(opened(tiny_folders(tied)))
    policy.save(tmp_path / "model")
    plain = load_policy(ModelConfig(path=str(tmp_path / "model")), CPU)
    assert [name for name, _ in policy.weights()] == [name for name, _ in plain.model.named_parameters()]
    assert (logps(policy) - logps(load_policy(ModelConfig(path=str(tiny_folders(tied))), CPU))).abs().max() > 0.1
    torch.testing.assert_close(logps(policy), logps(plain), rtol=1e-5, atol=1e-5)
    assert plain.eos_ids == policy.eos_ids


def test_without_adapters_it_is_the_base_model_again(tiny_folder, tiny_policy):
    policy = trained_adapters(opened(tiny_folder))
    before = logps(policy)
    with adapters_off(policy.model):
        assert torch.equal(logps(policy), logps(tiny_policy))
    assert torch.equal(logps(policy), before)
    assert any(p.requires_grad for p in policy.model.parameters())


@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_run_trains_only_adapters_and_leaves_a_plain_model(tiny_folder, config, tmp_path, beta, checkpointing):
    trainer, metrics = train(config(beta=beta, gradient_checkpointing=checkpointing), tmp_path / "run")
    state, base = trainer.policy.model.state_dict(), saved(tiny_folder)
    for name, value in base.items():
        layer, _, rest = name.rpartition(".")
        assert torch.equal(value, state.get(name, state.get(f"{layer}.base_layer.{rest}"))), name
    after = saved(tmp_path / "run" / "model")
    assert after.keys() == base.keys()
    changed = {name for name in base if not torch.equal(base[name], after[name])}
    assert changed == {name for name in base if "_proj.weight" in name}
    assert ("policy/kl" in metrics) == (beta > 0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert model.generate(**tokenizer("What is 3+4?", return_tensors="pt"), max_new_tokens=3).shape[1] > 3


def test_the_reference_is_the_model_without_adapters(tiny_folder, tiny_policy):
    policy = opened(tiny_folder)
    learner = Learner(
        policy, GRPOConfig(beta=0.1), Accelerator(cpu=True), dtype="float32", temperature=1.0, max_length=64,
        total_updates=4, seed=0,
    )  # fmt: skip
    trained_adapters(policy)
    assert torch.equal(learner.reference(TOKENS), logps(tiny_policy))
    assert not torch.equal(logps(policy), logps(tiny_policy))


def test_gradient_checkpointing_is_on_while_learning(tiny_folder):
    """transformers leaves it out, without a word, unless the model is in training mode."""
    policy = load_policy(ModelConfig(path=str(tiny_folder), gradient_checkpointing=True), CPU)
    learner = Learner(
        policy, GRPOConfig(beta=0.0), Accelerator(cpu=True), dtype="float32", temperature=1.0, max_length=64,
        total_updates=4, seed=0,
    )  # fmt: skip
    kept: list[int] = []

    def remember(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        learner.backend.forward(TOKENS)
    inner = policy.model.config.intermediate_size * len(TOKENS.ids_T)
    assert inner not in kept


@pytest.mark.parametrize(("beta", "dropout"), [(0.0, 0.0), (0.05, 0.2)])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(config, tmp_path, beta, dropout):
    train(config(steps=4, beta=beta, dropout=dropout), tmp_path / "whole")
    train(config(steps=2, beta=beta, dropout=dropout), tmp_path / "cut")
    _, checkpoint = Checkpoints(tmp_path / "cut" / "checkpoints", keep=2).newest(
        read_mark(tmp_path / "cut").fingerprint
    )
    assert sum(file.stat().st_size for file in checkpoint.rglob("*.safetensors")) < 200_000  # adapters, not the model
    train(config(steps=4, beta=beta, dropout=dropout), tmp_path / "cut")
    whole, cut = saved(tmp_path / "whole" / "model"), saved(tmp_path / "cut" / "model")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_what_sampled_has_no_dropout(config, tmp_path, minibatches):
    """π_old is the policy that sampled: the embedded engine, which has none."""
    cfg = config(steps=2, dropout=0.5, beta=0.05)  # the second step's adapters are not 0 any more
    cfg.grpo.minibatches = minibatches
    trainer, metrics = train(cfg, tmp_path / "run")
    assert metrics["policy/engine_mismatch"] < 1e-4
    assert metrics["policy/ratio_deviation"] > 1e-3  # what learns has it
    assert all(m.training for m in trainer.policy.model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0)


def test_layers_that_the_model_does_not_have(tiny_folder):
    with pytest.raises(ModelError, match=r"model\.lora\.target_modules"):
        opened(tiny_folder, target_modules=["query_key_value"])


def test_a_reference_that_moves_needs_weights_of_its_own(config, tmp_path):
    cfg = config(beta=0.05)
    cfg.grpo.ref_update_every = 2
    with pytest.raises(ConfigError, match="ref_update_every"):
        train(cfg, tmp_path / "run")


def test_quantized_weights_without_bitsandbytes(tiny_folder, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find(name, *rest)
    )
    with pytest.raises(ModelError, match="pip install bitsandbytes"):
        opened(tiny_folder, quantize=True)


@needs_bitsandbytes
def test_adapters_on_4_bit_weights_learn_and_merge(config, tmp_path):
    tokenizer = build_tokenizer(documents("arithmetic", seed=-1), 300)
    torch.manual_seed(0)
    size = TinyModelConfig(hidden_size=128, layers=1, heads=4, kv_heads=2, intermediate_size=256)
    Policy(build_model(size, tokenizer), tokenizer).save(tmp_path / "base")
    cfg = config(beta=0.05, path=str(tmp_path / "base"), lora={"quantize": True})
    trainer, _ = train(cfg, tmp_path / "run")
    assert trainer.policy.model.model.layers[0].mlp.up_proj.base_layer.weight.dtype == torch.uint8
    plain = load_policy(ModelConfig(path=str(tmp_path / "run" / "model")), CPU)
    torch.testing.assert_close(logps(plain), logps(trainer.policy), rtol=1e-4, atol=1e-4)
    assert not hasattr(plain.model.config, "quantization_config")
