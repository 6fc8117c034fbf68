"""The generated corpus and its arguments."""

from __future__ import annotations

import itertools

import pytest

from r1rl.errors import ConfigError
from r1rl.stages.pretrain import documents, run

PLAN = "pretrain: {{tokens: 1000, corpus_args: {args}}}\nstages: {{base: {{kind: pretrain}}}}\n"


@pytest.mark.parametrize("corpus", ["arithmetic", "bilingual"])
def test_a_corpus_takes_its_arguments(corpus: str) -> None:
    asked = [prompt for prompt, _ in itertools.islice(documents(corpus, 0, {"low": 2, "high": 2}), 60)]
    sums = [prompt for prompt in asked if "What is" in prompt]
    assert sums
    assert all(sum(sign in "+-" for sign in prompt) == 1 for prompt in sums)


def test_an_unknown_argument_is_refused(stages) -> None:
    with pytest.raises(ConfigError, match=r"pretrain.corpus_args: arithmetic takes no lo, only low, high"):
        run(stages(PLAN.format(args="{lo: 2}"), "base"))
