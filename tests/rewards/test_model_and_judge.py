"""A learned reward equals a plain forward pass of the same model, text by text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from r1rl.errors import RewardError
from r1rl_rewards.reward_model import RewardModel, scored_ids

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


CUTS_THOUGHTS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}User: {{ m.content }}{% else %}"
    "Assistant: {{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant: <think>\n{% endif %}"
)
"""As DeepSeek-R1's: of past turns it writes no thought."""


def test_a_template_that_cuts_thoughts_cuts_none_of_the_response(folder: Path, tmp_path: Path) -> None:
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CUTS_THOUGHTS
    tokenizer.bos_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path)
    prompt = [{"role": "user", "content": "2 + 2?"}]
    said = ["<think>I hate you</think>4", "one</think>4", "4"]
    model = RewardModel(tmp_path, device="cpu", batch_size=2)
    found = model([prompt] * 3, said, prefill=["", "<think>\n", ""])
    end = tokenizer.eos_token
    whole = [f"{end}User: 2 + 2?Assistant: {text}{end}" for text in (said[0], f"<think>\n{said[1]}", said[2])]
    assert whole[2] == tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": "4"}], tokenize=False)
    assert found == pytest.approx(plain(folder, whole), abs=1e-5)
    assert len({round(score, 6) for score in found}) == 3


def test_a_conversation_begins_once(folder: Path, tmp_path: Path) -> None:
    """As TRL tokenizes conversations: the template decides on special tokens, the tokenizer adds none."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CUTS_THOUGHTS
    tokenizer.bos_token = tokenizer.eos_token
    first = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{tokenizer.eos_token} $A", special_tokens=[(tokenizer.eos_token, first)]
    )
    prompt = [{"role": "user", "content": "2 + 2?"}]
    messages = [*prompt, {"role": "assistant", "content": "4"}]
    assert scored_ids(tokenizer, prompt, "4") == tokenizer.apply_chat_template(messages)["input_ids"]
    assert scored_ids(tokenizer, "2 + 2?", "4")[:2] != [first, first]
    assert scored_ids(tokenizer, "2 + 2?", "4")[0] == first
    assert scored_ids(tokenizer, "2 + 2?", "4", truncation=True, max_length=3)[0] == first


@pytest.mark.parametrize(
    ("local_rank", "asked", "expected"),
    [("3", None, "cuda:3"), ("9", "cuda", "cuda:1"), (None, None, "cuda:5"), ("3", "cuda:0", "cuda:0")],
)
def test_each_rank_scores_on_its_own_gpu(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, local_rank: str | None, asked: str | None, expected: str
) -> None:
    class Scorer(torch.nn.Module):
        config = SimpleNamespace(pad_token_id=0)

        def to(self, device: torch.device) -> Scorer:
            self.placed = device
            return self

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 5)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    model = Scorer()
    RewardModel(model, tokenizer=str(tiny_folder), device=asked)
    assert model.placed == torch.device(expected)
