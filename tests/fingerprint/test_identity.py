"""What two identities of a stage say to each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from r1rl.config import RunConfig
from r1rl.fingerprint.identity import Identity
from r1rl.fingerprint.keys import Effect
from r1rl.fingerprint.mark import listed


def of(kind: str = "grpo", **sections: Any) -> Identity:
    return Identity.of(kind, RunConfig.model_validate(sections))


def said(before: Identity, after: Identity) -> str:
    return listed(after.changes(before))


def test_a_changed_key_is_said_with_both_values() -> None:
    assert (
        said(of(), of(grpo={"learning_rate": 1e-3, "beta": 0.5}))
        == "grpo.beta 0.001 → 0.5; grpo.learning_rate 3e-06 → 0.001"
    )
    assert said(of(), of(grpo={"tokens_per_microbatch": 64})) == ""
    assert of().fingerprint == of(grpo={"tokens_per_microbatch": 64, "steps": 3}).fingerprint


def test_a_preset_counts_by_what_it_sets() -> None:
    assert said(of(), of(grpo={"algorithm": "gspo"})).startswith("grpo.loss grpo → gspo")
    given = {"loss": "grpo", "scale_rewards": "group", "clip_low": 0.2, "clip_high": 0.2, "beta": 0.001}
    same = of(grpo={"algorithm": "dr_grpo", **given})
    assert said(of(grpo=given), same) == ""


def test_whole_entries_come_and_go_in_one_phrase() -> None:
    one, two = of(rewards={"accuracy": 1.0}), of(rewards={"accuracy": 1.0, "format": 1.0})
    assert said(one, two) == "rewards.format absent → given"
    assert said(two, one) == "rewards.format given → absent"
    assert said(of(), one) == "rewards.accuracy absent → given"
    assert said(of(), of(model={"lora": {"rank": 8}})) == "model.lora.rank absent → 8; model.lora null → given"
    args = of(rewards={"accuracy": {"args": {"a": 1}}})
    assert said(one, args) == "rewards.accuracy.args.a absent → 1"
    assert said(args, one) == "rewards.accuracy.args.a 1 → absent"


@pytest.mark.parametrize(
    ("kind", "section", "key"),
    [("grpo", "grpo", "steps"), ("sft", "sft", "epochs"), ("reward_model", "reward_model", "epochs")],
)
def test_the_length_of_a_stage_extends_it(kind: str, section: str, key: str) -> None:
    short, long = of(kind, **{section: {key: 2}}), of(kind, **{section: {key: 4}})
    [more] = long.changes(short)
    assert (more.effect, more.grew) == (Effect.EXTENDS, True)
    [less] = short.changes(long)
    assert (less.effect, less.grew) == (Effect.EXTENDS, False)
    assert short.fingerprint == long.fingerprint


def test_files_count_by_what_they_hold(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text("1")
    two.write_text("1")
    before = of(data={"train": {"a": {"path": str(one)}}})
    assert said(before, of(data={"train": {"a": {"path": str(two)}}})) == ""
    two.write_text("2")
    after = of(data={"train": {"a": {"path": str(two)}}})
    assert re.fullmatch(r"data\.train\.a\.path: what \S+/two\.jsonl holds", said(before, after))
    gone = of(data={"train": {"a": {"path": "hub/name"}}})
    assert said(before, gone).endswith("→ hub/name")


def test_files_in_lists_and_under_any_argument_count(tmp_path: Path) -> None:
    for name in ("a/words.txt", "b/words.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1")
    rewards = {
        "own": {
            "function": "accuracy",
            "args": {"files": [str(tmp_path / "a/words.txt"), str(tmp_path / "b/words.txt")]},
        }
    }
    before = of(rewards=rewards)
    (tmp_path / "a/words.txt").write_text("2")
    assert "rewards.own.args.files" in said(before, of(rewards=rewards))


def test_an_argument_that_names_the_whole_disk_is_not_read() -> None:
    assert of(
        rewards={"own": {"function": "accuracy", "args": {"root": "/", "here": ".", "home": "~"}}}
    ).contents.keys() == {"rewards.own.function"}


def test_a_word_is_not_the_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an argument nor a model on the hub, wherever the command is given."""
    sections: dict[str, Any] = {
        "model": {"path": "gpt2"},
        "data": {"train": {"sums": {"path": "generated:arithmetic", "args": {"split": "train"}}}},
        "rewards": {"own": {"function": "accuracy", "args": {"languages": ["en", "de"], "table": "words.txt"}}},
    }
    before = of(**sections)
    for name in ("train", "en", "gpt2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text("1")
    monkeypatch.chdir(tmp_path)
    assert said(before, of(**sections)) == ""
    (tmp_path / "words.txt").write_text("1")
    (tmp_path / "gpt2" / "config.json").write_text("{}")
    assert {"model.path", "rewards.own.args.table"} <= of(**sections).contents.keys()


def test_two_functions_of_one_file_are_not_the_same_reward(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def a(**k): ...\ndef b(**k): ...\n")
    uses = [of(rewards={"own": {"function": f"{tmp_path}/own.py:{name}"}}) for name in "ab"]
    assert uses[0].fingerprint != uses[1].fingerprint
    assert "rewards.own.function" in said(*uses)
