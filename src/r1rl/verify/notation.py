r"""Normalises notation to one form of LaTeX: spacing, delimiters, fractions, roots, powers, function names.

Works only on text, in time linear in its length apart from bounded nesting.
"""

from __future__ import annotations

import re

from r1rl.verify.text import THOUSANDS

_MARKS = re.compile(
    r"(?P<row>\\\\)|\\(?:left|right|bigg?[lr]?|Bigg?[lr]?|displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut)(?![a-zA-Z])\s*\.?"
    r"|\\[!,;:>]|\\ |\\q?quad(?![a-zA-Z])|~|\\phantom\{[^{}]*\}|\\hspace\*?\{[^{}]*\}|\\\$|\$"
)
_ROWS = re.compile(r"matrix|array|cases|aligned")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z{}])")
_THOUSANDS = re.compile(THOUSANDS)
_SYNONYMS = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "leq": "le", "geq": "ge", "neq": "ne", "leqslant": "le",
    "geqslant": "ge", "lt": "<", "gt": ">", "land": "and", "lor": "or", "lbrace": "{", "rbrace": "}", "lbrack": "[",
    "rbrack": "]", "vert": "|", "lvert": "|", "rvert": "|", "ast": "cdot", "bullet": "cdot", "varnothing": "emptyset",
    "R": "mathbb{R}", "Z": "mathbb{Z}", "Q": "mathbb{Q}", "N": "mathbb{N}", "C": "mathbb{C}", "reals": "mathbb{R}",
    "to": "rightarrow", "degree": "circ", "backslash": "setminus", "infin": "infty", "tg": "tan", "ctg": "cot",
    "arctg": "arctan", "sen": "sin", "mathrm{e}": "e",
}  # fmt: skip
_SYNONYM = re.compile(r"\\(" + "|".join(sorted(map(re.escape, _SYNONYMS), key=len, reverse=True)) + r")(?![a-zA-Z])")
_MARKUP = re.compile(
    r"\\(?:text|mathrm|textrm|mbox|operatorname\*?|rm|textit|mathit|textbf|mathbf|boldsymbol|bm|mathsf|mathcal|textnormal)"
    r"\s*\{\s*([^{}]*?)\s*\}"
)
_AND_OR = re.compile(r"^(?:,?\s*)(?:and|or)$")
_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|max|min|gcd|lcm|det"
_FUNCTION_NAME = re.compile(rf"(?:{_FUNCTIONS})$")
_PLAIN_FUNCTION = re.compile(rf"(?<![\\a-zA-Z])({_FUNCTIONS})(?![a-zA-Z])")
_PLAIN_ROOT = re.compile(r"(?<![\\a-zA-Z])sqrt(?![a-zA-Z])")
_PLAIN_SYMBOL = re.compile(r"(?<![\\a-zA-Z])(pi|theta|alpha|beta|lambda|infinity|inf|infty|oo)(?![a-zA-Z])")
_SYMBOL_NAMES = {"infinity": "infty", "inf": "infty", "oo": "infty"}
_BARE_FRACTION = re.compile(r"\\frac\s*(?:([0-9a-zA-Z])\s*([0-9a-zA-Z])|([0-9a-zA-Z])\s*(?=\{))")
_BARE_BOTTOM = re.compile(r"\s*([0-9a-zA-Z])")
_BARE_ROOT = re.compile(r"\\sqrt\s*([0-9]+|[a-zA-Z]|\\pi(?![a-zA-Z]))")
_ROUND_ROOT = re.compile(r"\\sqrt\s*\(")
_ROUND_POWER = re.compile(r"\^\s*\(")
_SIGNED_POWER = re.compile(r"\^\s*([+-])\s*([0-9]+|[a-zA-Z])")
_HIDDEN_PRODUCT = re.compile(
    r"(?<=[0-9)}!])\s*(?=\()|(?<=\))\s*(?=[0-9a-zA-Z\\])(?!\\(?:cdot|times|div|le|ge|ne|in|cup|cap|pm|mp|setminus|mid|circ|mod|bmod|pmod|rightarrow|cdots|ldots|\}|\)|\]))"
)
_DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_TRIGONOMETRY = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_PRIMES = re.compile(r"\^\s*(?:\{\s*(?:\\prime\s*)+\}|\\prime(?![a-zA-Z])\s*)")
_SPACES = re.compile(r"\s+")


def normalise(text: str) -> str:
    """An answer in one LaTeX notation that the structure and the algebra parsers read."""
    if not _ROWS.search(text):
        text = _DOUBLED.sub(r"\\", text)
    text = _THOUSANDS.sub("", text)
    text = _MARKS.sub(_row_or_space, text)
    text = _MARKUP.sub(_unmark, text)
    text = _SYNONYM.sub(_synonym, text)
    text = _PRIMES.sub(_apostrophes, text)
    text = text.replace("**", "^").replace("*", "\\cdot ")
    text = _PLAIN_ROOT.sub(r"\\sqrt", text)
    text = _PLAIN_FUNCTION.sub(r"\\\1", text)
    text = _PLAIN_SYMBOL.sub(_symbol, text)
    text = _fix_fractions(text)
    text = _BARE_ROOT.sub(r"\\sqrt{\1}", text)
    text = _braced(text, _ROUND_ROOT, "\\sqrt")
    text = _braced(text, _ROUND_POWER, "^")
    text = _SIGNED_POWER.sub(r"^{\1\2}", text)
    if _TRIGONOMETRY.search(text):
        text = _DEGREES.sub(r"(\\frac{\1}{180}\\cdot \\pi )", text)
    if text.rstrip().endswith(".."):  # digits that go on are not the digits shown
        text = text.rstrip(" .") + "\\ldots"
    return _SPACES.sub(" ", text).strip(" .=;")


def _row_or_space(match: re.Match[str]) -> str:
    return match["row"] or " "


def _apostrophes(match: re.Match[str]) -> str:
    return "'" * match[0].count("prime")


def _symbol(match: re.Match[str]) -> str:
    return f"\\{_SYMBOL_NAMES.get(match[1], match[1])} "


def with_products(text: str) -> str:
    r"""The text with ``\cdot`` where juxtaposed brackets mean a product; latex2sympy reads ``2(3)`` as 2 + 3."""
    return _HIDDEN_PRODUCT.sub(r"\\cdot ", text)


def _unmark(match: re.Match[str]) -> str:
    """The content of text markup if it is a separator, a function or single letters (variables); prose stays marked."""
    inner = match.group(1)
    if _AND_OR.match(inner):
        return " , "
    if _FUNCTION_NAME.match(inner):
        return f"\\{inner} "
    if len(inner) <= 1 or not inner.strip():
        return f" {inner} "
    return f"\\text{{{inner}}}"


def _synonym(match: re.Match[str]) -> str:
    name = _SYNONYMS[match.group(1)]
    if name in ("and", "or"):
        return " , "
    return name if name in "<>[]|" else f"\\{name}" + ("" if name in "{}" else " ")


def _fix_fractions(text: str) -> str:
    r"""``\frac12``, ``\frac1{2}`` and ``\frac{1}2`` with all their braces."""

    def numerator(match: re.Match[str]) -> str:
        top, bottom, lone = match.groups()
        return f"\\frac{{{lone}}}" if lone else f"\\frac{{{top}}}{{{bottom}}}"

    text = _BARE_FRACTION.sub(numerator, text)
    start = text.find("\\frac")
    while start >= 0:
        end = _closing(text, start + 5)
        bottom = _BARE_BOTTOM.match(text, end) if end > 0 else None
        if bottom:
            text = f"{text[:end]}{{{bottom.group(1)}}}{text[bottom.end() :]}"
        start = text.find("\\frac", start + 5)
    return text


def _closing(text: str, start: int) -> int:
    """Index after the brace group that starts at ``start``, or −1."""
    if not text.startswith("{", start):
        return -1
    depth = 0
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    return -1


def _braced(text: str, pattern: re.Pattern[str], command: str) -> str:
    """``command(…)`` as ``command{…}``, with balanced brackets."""
    for _ in range(50):
        match = pattern.search(text)
        if match is None:
            break
        depth, index = 1, match.end()
        while index < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[index], 0)
            index += 1
        if depth:
            break
        text = f"{text[: match.start()]}{command}{{{text[match.end() : index - 1]}}}{text[index:]}"
    return text
