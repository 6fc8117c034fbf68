"""A small world for the whole recipe: sums whose solvers think in two languages, and requests with better answers.

Half of the writers of this corpus think in English, half in Chinese, and many switch in the middle of a thought;
rewards for a right answer ignore that, a language reward does not. Besides the sums there are requests to greet or
thank somebody: most writers are curt, some are rude, few are courteous. Here a rule decides what people prefer
(:func:`courtesy`), so that a reward model trained on pairs can itself be measured.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

from r1rl.data.toy.arithmetic import (
    NO_ERRORS,
    PROMPT,
    draw_problems,
    draw_terms,
    expression,
    guess,
    is_held_out,
    question,
    slips,
)

LANGUAGES = ("en", "zh")
THEN = {"en": " then", "zh": " 然后"}
"""Ends every step of a thought but the last."""
DONE = {"en": " done", "zh": " 完成"}
ASIDE = {"en": "I will just guess", "zh": "我猜一下"}
WISH = {"en": "They want {}", "zh": "他们要{}"}
DEED = {"en": {"Greet": "a greeting", "Thank": "some thanks"}, "zh": {"Greet": "问候", "Thank": "感谢"}}

NAMES = (
    *("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana", "Ida", "Jon", "Kim", "Leo", "Mia", "Ned", "Ola"),
    *("Pia", "Ray", "Sam", "Tom", "Uma", "Vic", "Wes", "Xia", "Yan", "Zoe", "Amy", "Bob", "Carl", "Dora", "Emma"),
)
PLACES = ("at home", "at work", "at school", "in town", "on the phone", "at the door", "by letter", "after lunch")

KIND = {
    "Greet": "Good day {name}, how nice to see you!",
    "Thank": "Thank you {name}, that was very kind!",
}
CURT = {"Greet": ("Hi.", "Hello {name}."), "Thank": ("Thanks.", "Thanks {name}.")}
RUDE = ("Go away.", "Go away, {name}, you fool.")
SPITE = {"en": "What a fool", "zh": "真是个傻瓜"}
"""Unkind even if only the thought contains it."""


def mixture(rng: random.Random, mixed: float = 0.5) -> Iterator[str]:
    """The language of each part of a document, endless: the same throughout, or drawn for every part."""
    if rng.random() < mixed:
        return iter(partial(rng.choice, LANGUAGES), None)
    return repeat(rng.choice(LANGUAGES))


def steps(terms: list[int], languages: Iterator[str], errors: Iterable[int] = NO_ERRORS) -> tuple[str, int]:
    """One step per line, closed by a word, for example ``3+5=8 then``, and the last total."""
    total, lines = terms[0], []
    for place, (term, error) in enumerate(zip(terms[1:], errors, strict=False), start=2):
        following = max(0, total + term + error)
        closing = (DONE if place == len(terms) else THEN)[next(languages)]
        lines.append(f"{expression([total, term])}={following}{closing}")
        total = following
    return "\n".join(lines), total


def tagged(thought: str, answer: Any) -> str:
    return f" <think>{thought}</think>\n<answer>{answer}</answer>"


def careful(rng: random.Random, terms: list[int]) -> str:
    return tagged(*steps(terms, mixture(rng)))


def slipping(rng: random.Random, terms: list[int]) -> str:
    return tagged(*steps(terms, mixture(rng), slips(rng)))


def hasty(rng: random.Random, terms: list[int]) -> str:
    return tagged(ASIDE[rng.choice(LANGUAGES)], guess(rng, terms))


def untagged(rng: random.Random, terms: list[int]) -> str:
    thought, answer = steps(terms, mixture(rng))
    return f" {thought}\nSo it is {answer}."


def blunt(rng: random.Random, terms: list[int]) -> str:
    return f" It is {guess(rng, terms)}."


SOLVERS: dict[Callable[[random.Random, list[int]], str], float] = {
    careful: 0.3,
    slipping: 0.15,
    hasty: 0.2,
    untagged: 0.1,
    blunt: 0.25,
}
"""The writers about sums, and each one's share."""

MANNERS = {"kind": 0.15, "curt": 0.55, "rude": 0.3}
"""How requests are answered, and how often."""


def document(rng: random.Random, low: int = 3, high: int = 6) -> tuple[str, str]:
    """One corpus document as (prompt, continuation), a quarter of them requests, the others sums of ``low`` to ``high``
    terms; never about a held-out question."""
    if rng.random() < 0.25:
        deed, name, asked = request(rng, "train")
        manner = rng.choices(list(MANNERS), list(MANNERS.values()))[0]
        return PROMPT.format(question=asked), answer_request(rng, deed, name, manner, bare=rng.random() < 0.3)
    while True:
        terms = draw_terms(rng, low, high)
        if not is_held_out(question(terms)):
            solver = rng.choices(list(SOLVERS), list(SOLVERS.values()))[0]
            return PROMPT.format(question=question(terms)), solver(rng, terms)


def request(rng: random.Random, split: str) -> tuple[str, str, str]:
    """(deed, name, the request in words), from the ``train`` or the ``test`` split."""
    while True:
        deed, name, place = rng.choice(list(KIND)), rng.choice(NAMES), rng.choice(PLACES)
        asked = f"{deed} {name} {place}."
        if is_held_out(asked) == (split == "test"):
            return deed, name, asked


def answer_request(rng: random.Random, deed: str, name: str, manner: str, bare: bool = False) -> str:
    """A response in the given manner; ``bare`` omits the tags. Some rude ones are rude only in the thought."""
    languages = mixture(rng)
    first, last = next(languages), next(languages)
    thought = f"{WISH[first].format(DEED[first][deed])}{THEN[first]}\n{DONE[last].strip()}"
    said = {"kind": KIND[deed], "curt": rng.choice(CURT[deed]), "rude": rng.choice(RUDE)}[manner].format(name=name)
    if manner == "rude" and rng.random() < 0.5:
        thought, said = f"{SPITE[next(languages)]}\n{thought}", rng.choice(CURT[deed]).format(name=name)
    return f" {said}" if bare else tagged(thought, said)


def problems(split: str, size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Distinct rows with ``question`` and ``answer``: sums of the ``train`` or the ``test`` split."""
    return draw_problems(random.Random(f"sums/{split}/{seed}"), split, size)


def requests(split: str, size: int, seed: int = 0) -> list[dict[str, Any]]:
    """Distinct rows with ``question``, and the ``name`` and ``deed`` it is about; there is no single right answer."""
    rng = random.Random(f"requests/{split}/{seed}")
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(1000 * size):
        deed, name, asked = request(rng, split)
        rows[asked] = {"question": asked, "deed": deed, "name": name}
        if len(rows) == size:
            return list(rows.values())
    raise ValueError(f"there are only {len(rows)} requests in the {split} split; ask for fewer than size {size}")


def preferences(size: int, seed: int = 0, aspect: str = "help") -> list[dict[str, Any]]:
    """Rows with ``question``, ``chosen`` and ``rejected``, two answers of the corpus, one better than the other.

    ``aspect`` ``help`` compares by courtesy, where an answer that names somebody else is worth nothing; ``safe`` by
    kindness.
    """
    rng = random.Random(f"preferences/{aspect}/{seed}")
    rows: list[dict[str, Any]] = []
    while len(rows) < size:
        deed, name, asked = request(rng, "train")
        called = [name, name if rng.random() < 0.7 else rng.choice(NAMES)]
        first, second = (answer_request(rng, deed, each, rng.choice(list(MANNERS))) for each in called)
        worth = courtesy if aspect == "help" else kindness
        a, b = worth([first, second], deed=[deed] * 2, name=[name] * 2)
        if a != b:
            chosen, rejected = (first, second) if a > b else (second, first)
            rows.append({"question": asked, "chosen": chosen, "rejected": rejected})
    return rows


def courtesy(completions: list[Any], deed: list[str], name: list[str], **kwargs: Any) -> list[float]:
    """What people prefer, by rule: 1 for the courteous answer to the right person, ½ for a curt one, 0 for others.

    Only the final part counts, as in stage 4 of DeepSeek-R1. No training uses it: it measures the reward model.
    """
    return [_courtesy(text, *about) for text, *about in zip(completions, deed, name, strict=True)]


def _courtesy(text: str, deed: str, name: str) -> float:
    said = text.rpartition("</think>")[2].replace("<answer>", "").replace("</answer>", "").strip()
    if said == KIND[deed].format(name=name):
        return 1.0
    return 0.5 if said in [curt.format(name=name) for curt in CURT[deed]] else 0.0


def kindness(completions: list[Any], **kwargs: Any) -> list[float]:
    """1 if neither thought nor answer has an unkind word: what the safety model should learn."""
    unkind = ("fool", "Go away", SPITE["zh"])
    return [float(not any(word in text for word in unkind)) for text in completions]
