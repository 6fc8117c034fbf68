"""A base model's end of sequence is often not what ends a turn: completions end there too, and say nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from r1rl.config import ExportConfig, ModelConfig, PromptConfig, TinyModelConfig
from r1rl.model.load import Policy, load_policy
from r1rl.rollout import torch_engine
from r1rl.rollout.ending import Ending
from r1rl.rollout.engine import Request, complete
from r1rl.rollout.vllm.wire import completion, sampling
from r1rl.stages.export import export_model
from r1rl.stages.pretrain import build_model, build_tokenizer, documents
from r1rl.types import Problem, SamplingParams

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAID = "<think>3+4</think>\n<answer>7</answer>"
ENDS = {"<|im_end|>\n<|endoftext|>": "<|im_end|>", "<|endoftext|>": "<|endoftext|>"}
"""What a model may write after its answer, and the token at which a completion ends."""


def tokenizer(template: str | None = CHATML, tags: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """Qwen2.5 base: ``<|endoftext|>`` ends a sequence, ``<|im_end|>`` a turn. ``tags`` are special tokens too."""
    made = build_tokenizer(documents("arithmetic", seed=-1), 300)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", *tags]})
    made.chat_template = template
    return made


def policy(of: PreTrainedTokenizerBase) -> Policy:
    size = TinyModelConfig(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=16)
    return Policy(build_model(size, of), of)


def ids_of(text: str, of: PreTrainedTokenizerBase) -> list[int]:
    return list(of(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("tags", [(), ("<think>", "</think>", "<answer>", "</answer>")], ids=["text", "special"])
@pytest.mark.parametrize("end", ENDS)
def test_completions_end_with_the_turn(end: str, tags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    one = policy(tokenizer(tags=tags))
    script = ids_of(SAID + end, one.tokenizer)
    drawn = iter(script)
    monkeypatch.setattr(
        torch_engine, "choose", lambda *_: (torch.tensor([next(drawn)]), torch.zeros(1))
    )  # the model writes what it should
    problem = Problem("p", tuple(ids_of("3+4", one.tokenizer)), [{"role": "user", "content": "3+4"}])
    ours = complete(torch_engine.TorchEngine(one, 1), [Request(problem, (1,))], SamplingParams(len(script)))[0][0]
    expected = ids_of(SAID + ENDS[end], one.tokenizer)
    assert (ours.token_ids.tolist(), ours.text, ours.finish) == (expected, SAID, "stop")
    if not tags:  # as TRL reads completions
        assert ours.text == one.tokenizer.decode(script, skip_special_tokens=True).rstrip()


@pytest.mark.parametrize("end", ENDS)
def test_vllm_ends_there_too(end: str) -> None:
    one = policy(tokenizer(tags=("</answer>",)))
    ending = Ending.of(one)
    last = ids_of(ENDS[end], one.tokenizer)[0]
    request = Request(Problem("p", (1,), "p"), (1,))
    assert last in sampling(request, SamplingParams(9), ending.ids, seeded=False)["stop_token_ids"]
    ids = ids_of(SAID + ENDS[end], one.tokenizer)
    read = completion(ending, ids, [0.0] * len(ids), "stop", None, 3)
    assert (read.token_ids.tolist(), read.text, read.version) == (ids, SAID, 3)


def test_plain_text_after_a_turn_is_no_token_to_end_with() -> None:
    """The template that ``r1rl export`` writes ends a turn with a line break."""
    lines = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    refuses = "{{ raise_exception('no') }}"
    for template in (lines, refuses, None, {"rag": "{{ nothing }}"}):
        one = policy(tokenizer(template))
        assert one.eos_ids == (one.tokenizer.eos_token_id,)


def test_what_is_saved_ends_there_as_well(tmp_path: Path) -> None:
    first = policy(tokenizer())
    ends = sorted({first.tokenizer.eos_token_id, first.tokenizer.convert_tokens_to_ids("<|im_end|>")})
    assert first.eos_ids == tuple(ends)
    first.save(tmp_path / "base")
    assert GenerationConfig.from_pretrained(tmp_path / "base").eos_token_id == first.tokenizer.eos_token_id
    load_policy(ModelConfig(path=str(tmp_path / "base")), torch.device("cpu")).save(tmp_path / "trained")
    export_model(ModelConfig(path=str(tmp_path / "base")), ExportConfig(), PromptConfig(), tmp_path / "out")
    for folder in (tmp_path / "trained", tmp_path / "out"):
        assert GenerationConfig.from_pretrained(folder).eos_token_id == ends
        assert AutoTokenizer.from_pretrained(folder).eos_token == "<|endoftext|>"
