"""A learned reward equals a plain forward pass of the same model, text by text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1rl.errors import RewardError
from r1rl_rewards.reward_model import RewardModel

PROMPTS = ["What is 2 + 2? ", "What is 3 + 5? ", "Say something long. "]
TEXTS = ["<think>2 and 2</think>4", "8", "one two three four five six seven eight nine ten"]


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reward") / "model"
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=1)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(place)
    return place


def plain(folder: Path, texts: list[str]) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return [model(**tokenizer(text, return_tensors="pt")).logits[0, 0].item() for text in texts]


def test_it_equals_a_forward_pass_without_padding(folder: Path) -> None:
    expected = plain(folder, [prompt + text for prompt, text in zip(PROMPTS, TEXTS, strict=True)])
    for batch_size in (1, 2, 3):
        found = RewardModel(str(folder), batch_size=batch_size, device="cpu")(prompts=PROMPTS, completions=TEXTS)
        assert found == pytest.approx(expected, abs=1e-5)


def test_only_the_summary_on_request(folder: Path) -> None:
    found = RewardModel(folder, part="summary", device="cpu")(prompts=PROMPTS[:1], completions=TEXTS[:1])
    assert found == pytest.approx(plain(folder, [PROMPTS[0] + "4"]), abs=1e-5)


def test_the_prefill_is_part_of_the_response(folder: Path) -> None:
    model = RewardModel(folder, device="cpu")
    found = model(prompts=PROMPTS[:1], completions=["2 and 2</think>4"], prefill=["<think>"])
    assert found == pytest.approx(plain(folder, [PROMPTS[0] + TEXTS[0]]), abs=1e-5)


def test_conversations_go_through_the_chat_template(folder: Path) -> None:
    model = RewardModel(folder, device="cpu")
    prompt = [{"role": "user", "content": "2 + 2?"}]
    found = model(prompts=[prompt], completions=[[{"role": "assistant", "content": "4"}]])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    messages = [*prompt, {"role": "assistant", "content": "4"}]
    if tokenizer.chat_template is None:
        rendered = "user: 2 + 2?\nassistant: 4"
    else:
        rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert found == pytest.approx(plain(folder, [rendered]), abs=1e-5)


def test_long_texts_keep_their_end(folder: Path) -> None:
    model = RewardModel(folder, max_length=8, device="cpu")
    short, long = model(prompts=["", ""], completions=["1 2 3 4 5 6 7 8 9", "9 9 9 9 9 9 1 2 3 4 5 6 7 8 9"])
    assert short == pytest.approx(long, abs=1e-5)


def test_several_labels_are_refused(tiny_folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folder, num_labels=3)
    with pytest.raises(RewardError, match="has 3 labels"):
        RewardModel(model, tokenizer=str(tiny_folder), device="cpu")(prompts=["a"], completions=["b"])
