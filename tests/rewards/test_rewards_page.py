"""The example in docs/rewards.md runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

from r1rl_rewards.texts import texts_of

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")


def test_the_ten_line_reward() -> None:
    code = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0]
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("#")]) == 9
    space: dict[str, object] = {}
    exec(code, space)
    texts = texts_of([r"\boxed{18}", r"\boxed{19}", r"\boxed{18}", r"\boxed{18}"])
    ids = [[1] * 3, [1] * 3, [1] * 300, [1]]
    rewards = space["brevity"](texts, ids, ["18", "18", "18", None])  # type: ignore[operator]
    assert rewards == [1.0, 0.0, 0.0, None]


def test_every_shipped_reward_is_documented() -> None:
    from r1rl.scoring.load import origins

    for name, origin in origins():
        if origin.startswith("r1rl_rewards."):
            assert f"| `{name}` |" in PAGE
