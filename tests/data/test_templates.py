from __future__ import annotations

import pytest
from pydantic import ValidationError

from r1rl.config.data import PromptConfig
from r1rl.data.templates import R1_ZERO_OPENING, render, render_all, template_prefill
from r1rl.errors import ConfigError, DataError, ModelError
from r1rl_rewards.format import format as format_reward

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\nOPENING{% endif %}"
)
# As QwQ and the R1 distillations: the thought is opened for the model, and cut from past turns.
PLAIN = CHATML.replace("OPENING", "")
OPENS_THOUGHT = CHATML.replace("OPENING", "<think>\n")
# As Qwen3 with thinking switched off: an empty thought is written for the model.
CLOSES_THOUGHT = CHATML.replace("OPENING", "<think>\n\n</think>\n\n")
# A template that shows past turns with a thought as well: only the tag itself gives the prefill away.
THOUGHT_EVERYWHERE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# As Llama 2 and Mistral: no header of its own before the assistant's text, BOS in the template.
INST = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)


def test_r1_zero_is_plain_text_that_ends_where_the_assistant_begins(tokenizer):
    rendered = render("How many are 3 + 4?", tokenizer, PromptConfig())
    assert rendered.prompt == f"{R1_ZERO_OPENING}\nUser: How many are 3 + 4?\nAssistant:"
    assert tokenizer.decode(rendered.prompt_ids) == rendered.prompt
    assert rendered.prefill == ""
    assert all(tag in R1_ZERO_OPENING for tag in ("<think>", "</think>", "<answer>", "</answer>"))


def test_tags_need_not_be_single_tokens(tokenizer):
    assert len(tokenizer("<think>", add_special_tokens=False)["input_ids"]) > 1
    rendered = render("3 + 4?", tokenizer, PromptConfig(prefill=" <think>\n"))
    assert tokenizer.decode(rendered.prompt_ids).endswith("Assistant: <think>\n")


def test_plain_prompt_and_prefill_make_the_whole_text(tokenizer):
    config = PromptConfig(template="raw", prefill=" <think>", instruction="Answer in tags.")
    rendered = render("3 + 4?", tokenizer, config)
    assert (rendered.prompt, rendered.prefill) == ("3 + 4?\nAnswer in tags.", " <think>")
    assert tokenizer.decode(rendered.prompt_ids) == rendered.prompt + rendered.prefill


def test_system_replaces_the_opening_of_r1_zero(tokenizer):
    assert render("Q", tokenizer, PromptConfig(system="Be brief.")).prompt == "Be brief.\nUser: Q\nAssistant:"
    assert render("Q", tokenizer, PromptConfig(system="")).prompt == "User: Q\nAssistant:"


def test_a_conversation_of_one_question_fits_plain_templates(tokenizer):
    question = [{"role": "user", "content": "Q"}]
    assert render(question, tokenizer, PromptConfig(template="raw")).prompt == "Q"
    with pytest.raises(DataError, match="2 messages; use template: chat"):
        render([{"role": "system", "content": "S"}, *question], tokenizer, PromptConfig())


@pytest.mark.parametrize(
    ("template", "prefill"),
    [
        (PLAIN, ""),
        (OPENS_THOUGHT, "<think>\n"),
        (CLOSES_THOUGHT, "<think>\n\n</think>\n\n"),
        (THOUGHT_EVERYWHERE, "<think>\n"),
        (INST, ""),
    ],
)
def test_chat_reports_what_the_template_writes_for_the_assistant(template, prefill, make_tokenizer):
    tokenizer = make_tokenizer(template=template)
    assert template_prefill(tokenizer) == prefill
    rendered = render("Q <think> ?", tokenizer, PromptConfig(template="chat"))
    assert rendered.prefill == prefill
    assert tokenizer.decode(rendered.prompt_ids).endswith(prefill)
    assert rendered.prompt == [{"role": "user", "content": "Q <think> ?"}]


def test_chat_takes_system_and_instruction(make_tokenizer):
    tokenizer = make_tokenizer(template=PLAIN)
    config = PromptConfig(template="chat", system="S", instruction="Box it.")
    rendered = render("Q", tokenizer, config)
    assert rendered.prompt == [{"role": "system", "content": "S"}, {"role": "user", "content": "Q\nBox it."}]
    assert tokenizer.decode(rendered.prompt_ids) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ\nBox it.<|im_end|>\n<|im_start|>assistant\n"
    )
    own = [{"role": "system", "content": "own"}, {"role": "user", "content": "Q"}]
    assert render(own, tokenizer, config).prompt[0]["content"] == "own"
    assert own[1]["content"] == "Q", "the row itself is left alone"


def test_explicit_prefill_is_added_once(make_tokenizer):
    config = PromptConfig(template="chat", prefill="<think>\n")
    assert render("Q", make_tokenizer(template=PLAIN), config).prefill == "<think>\n"
    assert render("Q", make_tokenizer(template=OPENS_THOUGHT), config).prefill == "<think>\n"
    tokenizer = make_tokenizer(template=OPENS_THOUGHT)
    rendered = render("Q", tokenizer, PromptConfig(template="chat", prefill="Let me see."))
    assert rendered.prefill == "<think>\nLet me see."
    assert tokenizer.decode(rendered.prompt_ids).endswith("assistant\n<think>\nLet me see.")


@pytest.mark.parametrize("prefill", ["<think>", "<think>\n", " <think> ", "<think>\nWell,", "<think>Well,"])
@pytest.mark.parametrize("opening", ["<think>\n", "<think>", ""])
def test_a_thought_is_opened_once(opening, prefill, make_tokenizer):
    tokenizer = make_tokenizer(template=CHATML.replace("OPENING", opening))
    rendered = render("Q", tokenizer, PromptConfig(template="chat", prefill=prefill))
    text = tokenizer.decode(rendered.prompt_ids)
    assert text.count("<think>") == 1
    assert text.endswith(rendered.prefill)
    assert text.rstrip().endswith("Well,") == ("Well," in prefill)
    completion = " 3 + 4 = 7 </think> <answer> 7 </answer>"
    assert format_reward([completion], prefill=[rendered.prefill]) == [1.0]


def test_a_thought_that_the_template_closed_is_not_opened_again(make_tokenizer):
    with pytest.raises(ConfigError, match="opens a second thought: the chat template"):
        render("Q", make_tokenizer(template=CLOSES_THOUGHT), PromptConfig(template="chat", prefill="<think>\n"))


def test_beginning_of_sequence_stands_exactly_once(make_tokenizer):
    tokenizer = make_tokenizer(bos=True)
    assert render("Q", tokenizer, PromptConfig()).prompt_ids.count(0) == 1
    with_template = make_tokenizer(template=INST, bos=True)
    assert render("Q", with_template, PromptConfig(template="chat")).prompt_ids.count(0) == 1
    its_choice = make_tokenizer(template=PLAIN, bos=True)
    assert render("Q", its_choice, PromptConfig(template="chat")).prompt_ids.count(0) == 0


def test_no_end_of_sequence_before_the_completion(make_tokenizer):
    tokenizer = make_tokenizer(bos=True, eos_after=True)
    rendered = render("3 + 4", tokenizer, PromptConfig(template="raw"))
    assert list(rendered.prompt_ids) == tokenizer("3 + 4")["input_ids"][:-1]


def test_many_at_once_equal_one_by_one(tokenizer):
    questions = ["3 + 4?", "How many apples?", "x"]
    assert render_all(questions, tokenizer, PromptConfig()) == [render(q, tokenizer, PromptConfig()) for q in questions]
    assert render_all([], tokenizer, PromptConfig()) == []


def test_errors_say_what_to_change(tokenizer, make_tokenizer):
    with pytest.raises(ModelError, match=r"no chat template.*set prompt.template to r1_zero"):
        render("Q", tokenizer, PromptConfig(template="chat"))
    with pytest.raises(ValidationError, match="names no prompt template; it is one of r1_zero, raw, chat"):
        PromptConfig(template="nope")
    with pytest.raises(ConfigError, match=r"prompt template file 'nope\.py' does not exist"):
        render("Q", tokenizer, PromptConfig(template="nope.py:shout"))
    with pytest.raises(ConfigError, match=r"the raw template does not use prompt\.system"):
        render("Q", tokenizer, PromptConfig(template="raw", system="S"))
    with pytest.raises(ModelError, match=r"no system role; change prompt.system"):
        render("Q", make_tokenizer(template=INST), PromptConfig(template="chat", system="S"))
    with pytest.raises(DataError, match="ends with 'assistant'"):
        render([{"role": "assistant", "content": "A"}], make_tokenizer(template=PLAIN), PromptConfig(template="chat"))


SHOUT = """
from r1rl.data.templates import Written

def shout(tokenizer, config):
    return lambda question: Written(question.upper(), question.upper(), "")
"""


def test_a_template_of_ones_own(tokenizer, tmp_path):
    (tmp_path / "my_templates.py").write_text(SHOUT)
    assert render("why", tokenizer, PromptConfig(template=f"{tmp_path}/my_templates.py:shout")).prompt == "WHY"
