"""Loading, overriding, merging stages, writing back."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1rl.config import GRPOConfig, RunConfig, dump_config, load_config, stage_config, stages_of
from r1rl.config.grpo import PRESETS
from r1rl.config.overrides import read_overrides
from r1rl.errors import ConfigError

Write = Callable[..., Path]

STAGES = """
grpo: {learning_rate: 1e-5}
data:
  train:
    gsm8k: {path: gsm8k}
  eval:
    test: {path: gsm8k, split: test}
stages:
  base: {kind: pretrain}
  zero:
    kind: grpo
    model: base
    grpo: {algorithm: dapo, learning_rate: 2e-5}
  more:
    kind: grpo
    model: {path: zero, dtype: bfloat16}
    rewards: {accuracy: null, format: 0.5}
    data: {train: {gsm8k: null, math: {path: math}}}
  score:
    kind: evaluate
    model: more
"""


@pytest.fixture
def staged(write: Write) -> Path:
    return write(STAGES, base="model: gpt2\nrewards: {accuracy: 1.0}\n")


def test_defaults_short_forms_and_numbers(write: Write) -> None:
    run = load_config(write("grpo:\n  learning_rate: 1e-4\n  steps: 4_000\n"))
    assert run.model.path == "gpt2"
    assert run.rewards["accuracy"].weight == 1.0
    assert (run.grpo.learning_rate, run.grpo.steps) == (1e-4, 4000)
    assert run.rollout.group_size == 16


def test_overrides(write: Write) -> None:
    given = [
        "grpo.learning_rate=1e-4",
        "rewards.accuracy.weight=2",
        "rewards.accuracy.args.tolerance=1e-3",
        "data.train.gsm8k.limit=100",
        "rollout.stop=['</answer>', \"x=y\"]",
        "tracking.report_to=[wandb]",
        "--seed=3",
        "model.revision=main",
    ]
    run = load_config(write(), given)
    assert run.grpo.learning_rate == 1e-4
    assert run.rewards["accuracy"].weight == 2
    assert run.rewards["accuracy"].args == {"tolerance": 1e-3}
    assert run.data.train["gsm8k"].limit == 100
    assert run.rollout.stop == ["</answer>", "x=y"]
    assert run.tracking.report_to == ["wandb"]
    assert (run.seed, run.model.path, run.model.revision) == (3, "gpt2", "main")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.train.gsm8k.answer_pattern=#### (.+)", "#### (.+)"),
        ("data.train.gsm8k.answer_pattern='#### (.+)'", "#### (.+)"),
        ('data.train.gsm8k.answer_pattern="#### (.+)"', "#### (.+)"),
        ("data.train.gsm8k.answer_pattern=answer: (.+)", "answer: (.+)"),
        (r"data.train.gsm8k.answer_pattern=[{](.+)[}]", "[{](.+)[}]"),
        ("data.train.gsm8k.answer_pattern=null", None),
        ("data.train.gsm8k.question_from={question}: {answer} # of {n}", "{question}: {answer} # of {n}"),
        ("data.train.gsm8k.question=yes", "yes"),
        ("data.train.gsm8k.question=null", "null"),
        ("data.train.gsm8k.path=007", "007"),
        ("data.train.gsm8k.split=1e-6", "1e-6"),
        ("data.train.gsm8k.revision=12", "12"),
        ("data.train.gsm8k.revision=true", "true"),
        ("data.train.gsm8k.weight=1e-6", 1e-6),
        ("data.train.gsm8k.limit=1_000", 1000),
        ("data.train.gsm8k.rewards=[accuracy]", ["accuracy"]),
        ("data.train.gsm8k.rewards=null", None),
        ("data.train.gsm8k.args={size: 5, note: 'a # b'}", {"size": 5, "note": "a # b"}),
        ("data.train.gsm8k.args.size=5", {"size": 5}),
        ("data.train.gsm8k.args.size='5'", {"size": "5"}),
        ("data.train.gsm8k.args.mark=#### (.+)", {"mark": "#### (.+)"}),
        ("data.train.gsm8k.args.mark=a: b", {"mark": "a: b"}),
        ("data.train.gsm8k.args.mark=yes", {"mark": "yes"}),
        ("data.train.gsm8k.args.mark=007", {"mark": "007"}),
        ("data.train.gsm8k.args.mark=5 # five", {"mark": "5 # five"}),
        ("data.train.gsm8k.args.mark={question}", {"mark": "{question}"}),
        ("data.train.gsm8k.args.mark=[a", {"mark": "[a"}),
        ("data.train.gsm8k.args.mark=*", {"mark": "*"}),
        ("data.train.gsm8k.args.mark=null", {"mark": None}),
        ("data.train.gsm8k.prompt.prefill= <think>", " <think>"),
        ("data.train.gsm8k.prompt.too_long=skip", "skip"),
    ],
)
def test_the_key_decides_how_an_override_is_read(write: Write, override: str, value: object) -> None:
    key = override.partition("=")[0].removeprefix("data.train.gsm8k.").split(".")
    found = getattr(load_config(write(), [override]).data.train["gsm8k"], key[0])
    assert (getattr(found, key[1]) if key[0] == "prompt" else found) == value


def test_lists_and_mappings_as_overrides(write: Write) -> None:
    given = [
        "data.train.mine={path: rows.jsonl, answer_pattern: '#### (.+)', prompt: {template: raw}}",
        "rewards={format: 0.5, brief: {function: mine.py:brief}}",
        "rollout.stop=['#', yes]",
        "stages={zero: {kind: grpo, model: 'a: b # c'}}",
        "stages.zero.data={train: {gsm8k: null}}",
        "stages.zero.data.prompt.system=You: be # brief",
        "model.lora={target_modules: [q_proj]}",
        "grpo.learning_rate=2e-6 ",
    ]
    run = load_config(write(), given)
    assert run.data.train["mine"].answer_pattern == "#### (.+)"
    assert run.data.train["mine"].prompt is not None
    assert {name: reward.weight for name, reward in run.rewards.items()} == {"accuracy": 1, "format": 0.5, "brief": 1}
    assert run.rollout.stop == ["#", "yes"]
    view = stage_config(run, "zero")
    assert (view.model.path, list(view.data.train), view.data.prompt.system) == (
        "a: b # c",
        ["mine"],
        "You: be # brief",
    )
    assert run.model.lora is not None
    assert (run.model.lora.target_modules, run.grpo.learning_rate) == (["q_proj"], 2e-6)
    assert load_config(write(), ["model=a#b", "model.lora.target_modules=all"]).model.path == "a#b"
    with pytest.raises(ConfigError, match=r"override .*not valid YAML .*in quotes"):
        load_config(write(), ["data.train.mine={path: x, answer_pattern: #### (.+)}"])


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: text[:1] not in ("'", '"')))
def test_a_text_stays_what_was_typed(text: str) -> None:
    layer, _ = read_overrides([f"data.train.g.question={text}"])
    assert layer["data"]["train"]["g"]["question"] == text


PRINTABLE = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]))
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@given(
    st.one_of(NUMBERS, st.booleans(), st.none(), PRINTABLE, st.lists(PRINTABLE), st.dictionaries(PRINTABLE, NUMBERS))
)
def test_json_is_a_value(value: object) -> None:
    layer, _ = read_overrides([f"rewards.r.args.x={json.dumps(value, ensure_ascii=False)}"])
    assert layer["rewards"]["r"]["args"]["x"] == value


def test_an_override_into_a_short_form_keeps_its_weight(write: Write) -> None:
    run = load_config(
        write(base="model: gpt2\ndata: {train: {a: {path: b}}}\nrewards: {accuracy: 0.5}\n"),
        ["rewards.accuracy.args.x=1"],
    )
    assert run.rewards["accuracy"].weight == 0.5
    assert run.rewards["accuracy"].args == {"x": 1}


def test_a_new_model_path_does_not_keep_the_old_revision(write: Write) -> None:
    path = write(
        base="model: {path: a, revision: v1, dtype: bfloat16}\ndata: {train: {a: {path: b}}}\nrewards: {r: 1}\n"
    )
    run = load_config(path, ["model=other"])
    assert (run.model.path, run.model.revision, run.model.dtype) == ("other", None, "bfloat16")
    assert load_config(path, ["model.revision=v2", "model.path=other"]).model.revision == "v2"


def test_extends(write: Write, tmp_path: Path) -> None:
    write("grpo: {learning_rate: 1e-3, steps: 7}\nthreads: 2\n", name="base.yaml")
    (tmp_path / "sub").mkdir()
    path = write("extends: ../base.yaml\ngrpo: {steps: 9}\nthreads: null\n", name="sub/run.yaml", base="")
    run = load_config(path)
    assert (run.grpo.learning_rate, run.grpo.steps, run.threads, run.model.path) == (1e-3, 9, None, "gpt2")


def test_extends_itself(write: Write) -> None:
    write("extends: b.yaml\n", name="a.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml:6: .*extends itself"):
        load_config(write("extends: a.yaml\n", name="b.yaml", base=""))


def test_a_stage_lays_its_sections_over_the_run(staged: Path) -> None:
    run = load_config(staged)
    zero, more = stage_config(run, "zero"), stage_config(run, "more")
    assert zero.model.path == "base"
    assert (zero.grpo.learning_rate, run.grpo.learning_rate, more.grpo.learning_rate) == (2e-5, 1e-5, 1e-5)
    assert (more.model.path, more.model.dtype) == ("zero", "bfloat16")
    assert set(more.rewards) == {"format"}
    assert set(more.data.train) == {"math"}
    assert set(more.data.eval) == {"test"}
    assert list(more.stages) == ["more"]
    assert stage_config(more, "more") == more


def test_data_of_a_sample_stage_keeps_the_prompts_of_its_sources(write: Write, tmp_path: Path) -> None:
    plan = """
data:
  prompt: {template: r1_zero, max_tokens: 99}
  train: {gsm8k: {path: gsm8k}, talk: {path: talk.jsonl, prompt: {template: chat, system: S}}}
stages:
  draw: {kind: sample, model: gpt2, sample: {mix: {more: {path: more.jsonl, prompt: {template: raw}}}}}
  tune: {kind: sft, model: gpt2, data: "${draw.data}"}
"""
    run = load_config(write(plan, base="rewards: {accuracy: 1.0}\n"))
    source = stage_config(run, "tune").data.train["draw"]
    assert {name: prompt.template for name, prompt in source.prompts.items()} == {"talk": "chat", "more": "raw"}
    assert source.prompts["talk"].system == "S"
    assert source.prompt is None
    dump_config(run, tmp_path / "out.yaml")
    assert stage_config(load_config(tmp_path / "out.yaml"), "tune") == stage_config(run, "tune")


def test_presets_fill_only_what_nobody_gave(staged: Path) -> None:
    run = load_config(staged, ["grpo.clip_low=0.1"])
    zero = stage_config(run, "zero").grpo
    assert (zero.loss, zero.clip_high, zero.beta, zero.dynamic_sampling) == ("dapo", 0.28, 0.0, True)
    assert zero.clip_low == 0.1
    assert (run.grpo.loss, run.grpo.beta, run.grpo.dynamic_sampling) == ("grpo", 0.001, False)
    assert stage_config(load_config(staged, ["stages.zero.grpo.algorithm=r1"]), "zero").grpo.beta == 0.001


@pytest.mark.parametrize("first", PRESETS)
@pytest.mark.parametrize("second", PRESETS)
def test_no_preset_value_sticks(first: str, second: str) -> None:
    changed = GRPOConfig(algorithm=first, beta=0.5)  # type: ignore[arg-type]
    changed.algorithm = second  # type: ignore[assignment]
    assert changed == GRPOConfig(algorithm=second, beta=0.5)  # type: ignore[arg-type]


def test_a_run_made_in_python_has_stages_too() -> None:
    run = RunConfig.model_validate(
        {
            "model": {"path": "gpt2"},
            "data": {"train": {"a": {"path": "b"}}, "eval": {"c": {"path": "d"}}},
            "rewards": {"r": 1},
        }
    )
    run.grpo.learning_rate = 1e-3
    assert list(stages_of(run)) == ["grpo", "evaluate"]
    assert stage_config(run, "grpo").grpo.learning_rate == 1e-3
    assert stage_config(run, "evaluate").model.path == "grpo"
    with pytest.raises(ConfigError, match="no stage sft"):
        stage_config(run, "sft")


def test_the_resolved_file_gives_the_same_stages(staged: Path, tmp_path: Path) -> None:
    run = load_config(staged)
    dump_config(run, tmp_path / "out" / "config.yaml")
    again = load_config(tmp_path / "out" / "config.yaml")
    for stage in run.stages:
        assert stage_config(again, stage) == stage_config(run, stage)
    text = (tmp_path / "out" / "config.yaml").read_text()
    assert "group_size: 16" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.yaml"]


def test_a_config_travels_to_other_processes(staged: Path) -> None:
    run = load_config(staged)
    assert pickle.loads(pickle.dumps(run)) == run


def test_an_override_that_every_stage_shadows(staged: Path) -> None:
    load_config(staged, ["grpo.learning_rate=1"])  # the stage `more` takes it
    with pytest.raises(
        ConfigError, match=r"override grpo.learning_rate=1: changes nothing.*stages\.zero\.grpo\.learning_rate"
    ):
        load_config(staged, ["stages.more.grpo.learning_rate=2", "grpo.learning_rate=1"])


def test_loading_needs_no_torch() -> None:
    code = "import sys, r1rl; r1rl.load_config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
