"""The last fenced block of the asked language is the program."""

import pytest

from r1rl.programs.blocks import last_block

PYTHON = "```python\nprint(1)\n```"


@pytest.mark.parametrize(
    "text",
    [
        PYTHON,
        f"<think>x</think>\n<answer>\n{PYTHON}\n</answer>",
        "<answer>```python\nprint(1)\n```</answer>",
        f"```python\nprint(0)\n```\nBetter:\n{PYTHON}",
        "```py\nprint(1)\n```",
        "~~~Python3\nprint(1)\n~~~",
        "   ```python title=x\nprint(1)\n   ```",
        "```\nprint(1)\n```",
        f"{PYTHON}\nIt prints:\n```\n1\n```",
        f"{PYTHON}\n```bash\npython main.py\n```",
        f"{PYTHON}\nand then\n```python\nprint(2)",
        "````python\nprint(1)\n````",
        f"<think>```python\nprint(0)\n```</think>{PYTHON}",
    ],
)
def test_the_program_is_the_last_closed_block_of_the_language(text: str) -> None:
    assert last_block(text) == "print(1)\n"


@pytest.mark.parametrize(
    "text",
    ["", "print(1)", "```python\nprint(1)", "```cpp\nint main() {}\n```", f"<think>{PYTHON}", "`print(1)`"],
)
def test_there_is_no_program_outside_of_a_closed_block(text: str) -> None:
    assert last_block(text) is None


def test_a_longer_fence_holds_a_shorter_one() -> None:
    assert last_block("````python\na = '''\n```\n'''\n````") == "a = '''\n```\n'''\n"


def test_another_language() -> None:
    assert last_block(f"{PYTHON}\n```c++\nint main() {{}}\n```\n{PYTHON}", "cpp") == "int main() {}\n"
