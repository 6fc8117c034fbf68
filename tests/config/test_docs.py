"""The generated reference."""

from __future__ import annotations

from pathlib import Path

from r1rl.config import RunConfig
from r1rl.config.docs import reference
from r1rl.config.walk import is_section, sections

PAGE = Path(__file__).parents[2] / "docs" / "config.md"


def test_the_page_in_the_repository_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run: python -m r1rl.config.docs > docs/config.md"


def test_every_key_says_what_it_means() -> None:
    missing = [
        f"{path}.{name}"
        for path, section, _ in sections(RunConfig)
        for name, field in section.model_fields.items()
        if not field.description and not is_section(field)
    ]
    assert missing == []


def test_every_key_is_listed() -> None:
    text = reference()
    assert "| `learning_rate` | `float, > 0` | `3e-06` |" in text
    assert "| `algorithm` | `r1 \\| dr_grpo \\| dapo \\| gspo \\| cispo` | `r1` |" in text
    assert "| `path` | `str` | `required` |" in text
    assert "## `data.train.NAME.prompt`" in text
    assert "The keys of [`data.train.NAME`](#datatrainname)." in text
    assert "| `dapo` | dapo | group | 0.2 | 0.28 | 0 | true |" in text
