"""Packed, chunked log-probabilities against transformers' padded, full logits."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from r1rl.model.forward import PackedTokens, PolicyForward

LENGTHS, PROMPTS = (5, 17, 9, 2, 30), (3, 4, 8, 1, 11)


def sequences(seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 300, (n,), generator=generator).tolist() for n in LENGTHS]


def packed(rows: list[list[int]], prompts: tuple[int, ...] = PROMPTS) -> PackedTokens:
    return PackedTokens.build(rows, prompts, torch.device("cpu"))


def groups(seed: int = 0) -> tuple[list[list[int]], tuple[int, ...]]:
    """Rows of which several begin with the same prompt, in mixed order, and the lengths of the prompts."""
    a, b, c, *tails = sequences(seed)
    a, b = a * 3, b + c
    rows = [a + tails[0], b + tails[1], a + tails[1][:9], tails[1], b, b + tails[0], c[:4] + tails[0], c[:4] + tails[1]]
    return rows, (len(a), len(b), len(a), 6, len(b), len(b), 4, 4)


CASES = {"apart": lambda: (sequences(), PROMPTS), "groups": groups}


def padded_logps(
    model: torch.nn.Module, rows: list[list[int]], prompts: tuple[int, ...], temperature: float
) -> torch.Tensor:
    """The oracle: one right-padded batch through transformers' own attention, full logits."""
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    logps = (model(input_ids=ids, attention_mask=mask, use_cache=False).logits / temperature).log_softmax(-1)
    chosen = logps[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return torch.cat([chosen[i, p - 1 : len(rows[i]) - 1] for i, p in enumerate(prompts)])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("case", CASES)
def test_packed_equals_padded_full_logits(tiny_folders, tied: bool, temperature: float, case: str) -> None:
    from r1rl.config import ModelConfig
    from r1rl.model.load import load_model

    folder = tiny_folders(tied)
    model = load_model(ModelConfig(path=str(folder)), torch.device("cpu"))
    oracle = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    rows, prompts = CASES[case]()
    weights = torch.linspace(-1, 1, sum(map(len, rows)) - sum(prompts))

    ours, _ = PolicyForward(model, temperature, chunk=7)(packed(rows, prompts))
    theirs = padded_logps(oracle, rows, prompts, temperature)
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)

    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    expected = dict(oracle.named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, expected[name].grad, atol=1e-5, rtol=1e-4), name


def test_a_prompt_of_several_sequences_is_computed_once() -> None:
    rows, prompts = groups()
    tokens = packed(rows, prompts)
    assert len(tokens.ids_T) == sum(map(len, rows)) - prompts[0] - 2 * prompts[1]  # one of 4 tokens is not shared
    assert [row[p:] for row, p in zip(rows, prompts, strict=True)] == [
        part.tolist() for part in tokens.targets_C.split([len(r) - p for r, p in zip(rows, prompts, strict=True)])
    ]


def test_chunked_equals_unchunked(tiny_policy) -> None:
    tokens = packed(sequences())
    results = []
    for chunk in (1, 3, 1000):
        model = copy.deepcopy(tiny_policy.model)
        logps, entropy = PolicyForward(model, 1.0, chunk)(tokens, entropy=True)
        logps.square().mean().backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        results.append((logps.detach(), entropy, gradients))
    for logps, entropy, gradients in results[:-1]:
        assert torch.allclose(logps, results[-1][0], atol=1e-6)
        assert torch.allclose(entropy, results[-1][1], atol=1e-5)
        assert torch.allclose(gradients, results[-1][2], atol=1e-5)


def test_a_sequence_does_not_see_its_neighbours(tiny_policy) -> None:
    forward = PolicyForward(tiny_policy.model, 1.0, 100)
    rows = sequences()
    alone = torch.cat(
        [forward(PackedTokens.build([r], [p], torch.device("cpu")))[0] for r, p in zip(rows, PROMPTS, strict=True)]
    )
    for training in (True, False):
        forward.train(training)
        assert torch.allclose(forward(packed(rows))[0], alone, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_changes_nothing(tiny_policy, checkpointing: bool) -> None:
    model = tiny_policy.model.train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    forward = PolicyForward(model, 1.0, 100)
    logps, _ = forward(packed(sequences()))
    logps.sum().backward()
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    reference = copy.deepcopy(model)
    reference.gradient_checkpointing_disable()
    reference.zero_grad()
    PolicyForward(reference, 1.0, 100)(packed(sequences()))[0].sum().backward()
    assert torch.allclose(norm, torch.cat([p.grad.flatten() for p in reference.parameters()]).norm(), rtol=1e-5)


def test_entropy_is_that_of_the_tempered_distribution(tiny_policy) -> None:
    rows = sequences()
    _, entropy = PolicyForward(tiny_policy.model, 0.5, 4)(packed(rows), entropy=True)
    ids = torch.tensor([rows[0]])
    from r1rl.model.attention import Packed, positions

    layout = Packed((len(rows[0]),))
    logits = tiny_policy.model(
        input_ids=ids, position_ids=positions(layout.lengths, ids.device), layout=layout, use_cache=False
    ).logits
    expected = torch.distributions.Categorical(logits=logits[0] / 0.5).entropy()[PROMPTS[0] - 1 : -1]
    assert torch.allclose(entropy[: len(expected)], expected, atol=1e-5)


def test_the_gradient_of_entropy_is_that_of_the_full_logits(tiny_policy) -> None:
    model, oracle = tiny_policy.model, copy.deepcopy(tiny_policy.model)
    tokens = packed(sequences())
    _, entropy = PolicyForward(model, 0.7, 7, entropy_grad=True)(tokens, entropy=True)
    hidden = oracle.model(
        input_ids=tokens.ids_T[None], position_ids=tokens.positions_T[None], layout=tokens.layout, use_cache=False
    ).last_hidden_state[0]
    logits = oracle.lm_head(hidden[tokens.predict_C]) / 0.7
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(entropy, expected, atol=1e-5)
    weights = torch.linspace(-1, 1, len(expected))
    (entropy * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, ours), theirs in zip(model.named_parameters(), oracle.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4), name


def test_entropies_that_are_only_logged_have_no_gradient(tiny_policy) -> None:
    _, entropy = PolicyForward(tiny_policy.model, 1.0, 7)(packed(sequences()), entropy=True)
    assert not entropy.requires_grad
