"""The embedded engine against a fresh forward pass, against itself in other batches, and against transformers."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from r1rl.model.forward import PackedTokens, PolicyForward
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.torch_engine import TorchEngine
from r1rl.types import Completion, Problem, SamplingParams


def request(prompt: list[int], seeds: tuple[int, ...]) -> Request:
    return Request(Problem(id=str(prompt), prompt_ids=tuple(prompt), prompt=""), seeds)


REQUESTS = [request([5, 6, 7], (1, 2, 3)), request([9] * 40, (4,)), request([3], (5, 6))]


def learner_logps(policy, req: Request, completion: Completion, temperature: float) -> np.ndarray:
    rows = [[*req.problem.prompt_ids, *completion.token_ids.tolist()]]
    tokens = PackedTokens.build(rows, [len(req.problem.prompt_ids)], torch.device("cpu"))
    with torch.no_grad():
        return PolicyForward(policy.model, temperature, 100)(tokens)[0].numpy()


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.3])
def test_log_probabilities_equal_a_fresh_forward_pass(tiny_policy, temperature: float) -> None:
    out = complete(TorchEngine(tiny_policy, 4), REQUESTS, SamplingParams(70, temperature))
    for req, completions in zip(REQUESTS, out, strict=True):
        assert len(completions) == len(req.seeds)
        for completion in completions:
            assert np.allclose(completion.logps, learner_logps(tiny_policy, req, completion, temperature), atol=1e-5)


def test_the_same_seed_gives_the_same_completion_whatever_the_batch(tiny_policy) -> None:
    params = SamplingParams(50)
    together = complete(TorchEngine(tiny_policy, 100), REQUESTS, params)
    for concurrent in (1, 3):
        squeezed = complete(TorchEngine(tiny_policy, concurrent), REQUESTS, params)
        for a, b in zip(chain(*together), chain(*squeezed), strict=True):
            assert a.token_ids.tolist() == b.token_ids.tolist()
    alone = complete(TorchEngine(tiny_policy, 100), [request([3], (6,))], params)
    assert alone[0][0].token_ids.tolist() == together[2][1].token_ids.tolist()


def test_greedy_equals_transformers_generate(tiny_policy, tiny_folder) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    for req in REQUESTS:
        prompt = torch.tensor([req.problem.prompt_ids])
        expected = model.generate(prompt, do_sample=False, max_new_tokens=30)[0, prompt.shape[1] :]
        ours = complete(TorchEngine(tiny_policy, 8), [req], SamplingParams(30, temperature=0))[0][0]
        assert ours.token_ids.tolist() == expected.tolist()


def test_finished_groups_are_yielded_while_others_run(tiny_policy) -> None:
    engine = TorchEngine(tiny_policy, 3)
    engine.sync(7)
    finished = dict(engine.stream(REQUESTS, SamplingParams(20)))
    assert sorted(finished) == [0, 1, 2]
    assert all(c.version == 7 for group in finished.values() for c in group)


def test_a_completion_ends_at_its_end_token_or_its_limit(tiny_policy) -> None:
    eos = tiny_policy.eos_ids[0]
    with torch.no_grad():  # make the end of sequence likely
        tiny_policy.model.get_input_embeddings().weight[eos] *= 4
    out = complete(TorchEngine(tiny_policy, 64), [request([5, 6], tuple(range(64)))], SamplingParams(12))[0]
    stopped = [c for c in out if c.finish == "stop"]
    assert stopped
    for c in out:
        ids = c.token_ids.tolist()
        assert (eos not in ids and len(ids) == 12) if c.finish == "length" else (ids.index(eos) == len(ids) - 1)
        assert "<|endoftext|>" not in c.text


def test_stop_strings_end_a_completion_and_stay_in_its_text(tiny_policy) -> None:
    free = complete(TorchEngine(tiny_policy, 8), [request([5], (1, 2, 3, 4))], SamplingParams(40))[0]
    target = free[0].text[3:5]
    params = SamplingParams(40, stop=(target,))
    for c in complete(TorchEngine(tiny_policy, 8), [request([5], (1, 2, 3, 4))], params)[0]:
        assert (target in c.text) == (c.finish == "stop") or c.token_ids[-1] in tiny_policy.eos_ids
        if target in c.text:
            assert target not in tiny_policy.tokenizer.decode(c.token_ids[:-1].tolist())


def test_a_request_larger_than_the_batch_still_runs(tiny_policy) -> None:
    out = complete(TorchEngine(tiny_policy, 2), [request([5], tuple(range(7)))], SamplingParams(5))
    assert len(out[0]) == 7
