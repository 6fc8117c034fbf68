"""The first cleaning of an answer: checks limits and characters, converts Unicode mathematics to LaTeX, removes outer
wrappers."""

from __future__ import annotations

import re
import unicodedata

MAX_LENGTH = 2_000
"""Longest answer that is compared, in characters."""

MAX_NESTING = 48
"""Deepest nesting of brackets that is compared."""

THOUSANDS = r"(?<=[0-9])(?:\s*(?:\{\s*,\s*\}|\\,|,?\\!|\\ )\s*|(?<![0-9]{4})[ ])(?=[0-9]{3}(?![0-9/]))"
"""A mark between groups of three digits, as LaTeX and SI write it; a plain comma is not among them."""

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ", "0123456789+-()n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SCRIPT_RUN = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ]+)|([₀₁₂₃₄₅₆₇₈₉]+)")
_FULL_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(94)}
_FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅐": "1/7", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "⋅": "\\cdot ", "·": "\\cdot ", "∙": "\\cdot ",
    "÷": "/", "∕": "/", "⁄": "/", "±": "\\pm ", "∓": "\\mp ", "√": "\\sqrt", "∞": "\\infty ", "π": "\\pi ",
    "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset ", "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ",
    "⩽": "\\le ", "⩾": "\\ge ", "≈": "\\approx ", "°": "^\\circ ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}",
    "ℚ": "\\mathbb{Q}", "ℕ": "\\mathbb{N}", "ℂ": "\\mathbb{C}", "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'",
    "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ", "ε": "\\epsilon ", "θ": "\\theta ",
    "λ": "\\lambda ", "μ": "\\mu ", "ρ": "\\rho ", "σ": "\\sigma ", "τ": "\\tau ", "φ": "\\phi ", "ω": "\\omega ",
    "Δ": "\\Delta ", "Ω": "\\Omega ", "⟨": "\\langle ", "⟩": "\\rangle ", "…": "\\ldots ", "，": ",", "﹣": "-",
}  # fmt: skip
_SPACED = {key: f" {value} " for key, value in _FRACTIONS.items()}
_TABLE = str.maketrans({**_SYMBOLS, **_SPACED}) | _FULL_WIDTH
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNESCAPED = re.compile(r"([\x08\x0c])(rac|box|egin|oxed|inom|eta|ar)(?![a-zA-Z])")  # of \frac, \begin, … in JSON
_FORBIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn"))
_NESTING = re.compile(r"[()\[\]{}]")
_WRAPPERS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"), ("**", "**"), ("`", "`"), ('"', '"'))
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")


class Refused(ValueError):
    """Raised for an answer that is not compared at all; its argument is the path of the verdict."""


def clean(text: str) -> str:
    """A bounded, printable answer with ASCII mathematics.

    Answers with invisible or control characters are rejected, not cleaned: the compared text must be the one that a
    person would read.

    Raises: Refused("length" | "characters" | "nesting" | "empty").
    """
    if len(text) > MAX_LENGTH:
        raise Refused("length")
    if not text.isascii():
        text = _to_ascii_mathematics(text)
    elif _CONTROL.search(text):
        text = _UNESCAPED.sub(_restored, text)
        if _CONTROL.search(text):
            raise Refused("characters")
    text = unwrap(text)
    if not text:
        raise Refused("empty")
    _check_nesting(text)
    return text


def unwrap(text: str) -> str:
    """The text without the delimiters, boxes and full stops around it."""
    while True:
        stripped = text.strip().removesuffix(".") if not text.endswith("..") else text.strip()
        for opening, closing in _WRAPPERS:
            inner = stripped[len(opening) : -len(closing)]
            if len(stripped) >= len(opening) + len(closing) and stripped == opening + inner + closing:
                if closing not in inner and opening not in inner:
                    stripped = inner
                break
        box = _BOXED.match(stripped)
        if box and stripped.endswith("}"):
            stripped = stripped[box.end() : -1]
        if stripped == text:
            return text
        text = stripped


def _to_ascii_mathematics(text: str) -> str:
    text = _SCRIPT_RUN.sub(_script, text).translate(_TABLE)
    for character in text:
        if not character.isascii() and unicodedata.category(character) in _FORBIDDEN_CATEGORIES:
            raise Refused("characters")
    if _CONTROL.search(text):
        raise Refused("characters")
    return text


def _restored(match: re.Match[str]) -> str:
    return "\\" + ("f" if match.group(1) == "\x0c" else "b") + match.group(2)


def _script(match: re.Match[str]) -> str:
    above, below = match.groups()
    return f"^{{{above.translate(_SUPERSCRIPTS)}}}" if above else f"_{{{below.translate(_SUBSCRIPTS)}}}"


def _check_nesting(text: str) -> None:
    depth = 0
    for match in _NESTING.finditer(text):
        depth = depth + 1 if match.group() in "([{" else max(0, depth - 1)
        if depth > MAX_NESTING:
            raise Refused("nesting")
