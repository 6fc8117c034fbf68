r"""Splits prose into mathematics, words and punctuation: what may belong to an expression, and what ends one."""

from __future__ import annotations

import re
from typing import NamedTuple

from r1rl.verify.formulas import formulas
from r1rl.verify.units import KNOWN_UNITS

FUNCTIONS = frozenset(
    """sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp sqrt max min gcd lcm det mod pi infinity
    inf infty theta alpha beta lambda frac dfrac tfrac cdot times""".split()  # noqa: SIM905 (a table of names)
)
OPERATOR_COMMAND = re.compile(
    r"\\(?:leq?|geq?|neq?|leqslant|geqslant|lt|gt|in|notin|approx|equiv|cdot|times|div|cup|cap|setminus|to|mid|subset"
    r"|subseteq|rightarrow|Rightarrow|implies|iff|sim|pm|mp)(?![a-zA-Z])"
)
_SHORT_WORDS = frozenset(
    """is to of in by at so we it as or an on be if no up us do go he me my am the and for are was has had get got can
    not all any but out our you her his she him its per now one two ten six how who why did may new old day way thus
    let see say use sum yes nor too via ie eg vs ok oh ah hi re""".split()  # noqa: SIM905
)
_UNIT_WORDS = "|".join(sorted(map(re.escape, KNOWN_UNITS), key=len, reverse=True))
_POWER = r"(?:\s?(?:\^\s*\{?[234]\}?|[²³]|\$\s*\^\s*\{?[234]\}?\s*\$))?"
_PLAIN_UNIT = rf"(?:{_UNIT_WORDS})(?:s|es)?(?![^\W_]){_POWER}"
UNIT = re.compile(
    rf"[ \t~]?(?:(?:square|sq\.?|cubic|cu\.?)[ \t])?{_PLAIN_UNIT}(?:\s?(?:/|per)\s?{_PLAIN_UNIT}|\s?/\s?[a-zA-Z]+)?"
    r"(?!\s?(?:[=+*/^(<>]|[-−]\s?[\d(]))|(?:[ \t]?(?:percent|per cent|pct)\b)|[ \t]?[ap]\.?m\.?\b(?!\s?[=+*/^(<>])"
)
_LETTER = r"[^\W\d_⁰¹²³⁴-⁹ⁿ₀-₉½⅓⅔¼¾⅕-⅞]"
_TOKEN = re.compile(
    r"(?P<text>\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|operatorname\*?|mbox|rm)\s*\{[^{}]*\})"
    r"|(?P<space>[ \t\u00a0\u202f]+|\\[,;:! ]|\\q?quad(?![a-zA-Z])|~)"
    r"|(?P<newline>\n|\\\\)"
    r"|(?P<command>\\[a-zA-Z]+\*?|\\[%&#_|])"
    r"|(?P<open>\\?\{|[(\[⟨])|(?P<close>\\?\}|[)\]⟩])"
    r"|(?P<currency>\\?\$|[€£¥₹])"
    rf"|(?P<word>(?:\d[\d,.]*(?:st|nd|rd|th|D|-(?!sqrt|sin|cos|log|pi){_LETTER}{{2,}})|\d+(?:\.\d+){{2,}}"
    rf"|{_LETTER}*{_LETTER}{{2}}(?<!log)(?<!ln)(?<!sqrt)\d\w*)(?![^\W_]))"
    r"|(?P<number>(?:\d+[ ]\d+/\d+(?![\d/])|[1-9]\d{0,2}(?:(?:[ \u00a0\u202f]|\{,\}|\\,|,?\\!|\\ )\d{3})+(?![\d/]|,\d)"
    r"(?:\.\d+)?|\d+(?::\d+)+"
    r"|\d+\.(?=\\(?:overline|bar|dot|ldots|dots))|\d+(?:,\d+)*(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?(?:\.\.\.|…)?)"
    rf"|(?P<letters>{_LETTER}{{2,}}(?:['’-]{_LETTER}+)*)"
    rf"|(?P<letter>{_LETTER})"
    r"|(?P<separator>[,;，；、](?=\s|[^\s]))"
    r"|(?P<stop>[.?。！？．]|!(?=\s*(?:$|\n|[A-Z])))"
    r"|(?P<operator>\.\.\.|…|<=|>=|!=|==|\*\*|[-+*/^=<>≤≥≠≈±∓×·÷⋅∙−∈∪∩∖∅√∞°%!|'′_&:]|[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿ₀-₉½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⩽⩾])"
    r"|(?P<other>.)",
    re.DOTALL,
)


class Token(NamedTuple):
    """A piece of prose: its kind (a group of the pattern above, ``formula``, ``unit`` or ``cut``), place and text."""

    kind: str
    start: int
    end: int
    text: str
    spaced: bool
    """Whether white space precedes it."""


def tokenise(text: str) -> list[Token]:
    """The tokens of a text, without its spaces; ``cut`` is a formula that never closes."""
    tokens: list[Token] = []
    spaced, position = False, 0
    for formula in formulas(text):
        position, spaced = _extend(tokens, text, position, formula.start, spaced)
        if formula.start < position:  # part of a unit, as in cm$^2$
            continue
        position = formula.end
        if formula.content is None:
            tokens.append(Token("cut", formula.start, formula.end, "", spaced))
        else:
            tokens.append(Token("formula", formula.start, formula.end, formula.content.strip(), spaced))
            position = _add_unit(tokens, text, formula.end, len(text))
        spaced = False
    _extend(tokens, text, position, len(text), spaced)
    return [_decided(tokens, index) for index in range(len(tokens))]


def _extend(tokens: list[Token], text: str, start: int, end: int, spaced: bool) -> tuple[int, bool]:
    """Add the tokens of a stretch without formulas; returns where it ends, and whether with white space."""
    while start < end:
        match = _TOKEN.match(text, start, end)
        assert match is not None  # the last group matches anything
        start = match.end()
        kind = match.lastgroup or "other"
        if kind == "space":
            spaced = True
            continue
        tokens.append(Token(kind, match.start(), start, match.group(), spaced))
        spaced = False
        if kind == "number":
            start = _add_unit(tokens, text, start, end)
    return start, spaced


def _add_unit(tokens: list[Token], text: str, start: int, end: int) -> int:
    """Add the unit that follows a number or a formula, if one does; returns where the rest begins."""
    unit = UNIT.match(text, start)
    if unit is None or (unit.end() > end and "$" not in unit.group()):
        return start
    spaced = unit.group()[0].isspace()
    tokens.append(Token("unit", unit.start(), unit.end(), unit.group().strip().replace("$", ""), spaced))
    return unit.end()


def _decided(tokens: list[Token], index: int) -> Token:
    """The token, with letters decided: a ``function`` or a ``letter`` may belong to an expression, a ``word`` and a
    letter ``alone`` do not."""
    token = tokens[index]
    if token.kind not in ("letters", "letter"):
        return token
    before = tokens[index - 1] if index else None
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if token.kind == "letter":
        return token._replace(kind="alone") if _is_alone(token, before, after) else token
    if token.text in FUNCTIONS:
        return token._replace(kind="function")
    if len(token.text) > 3 or token.text.lower() in _SHORT_WORDS or not token.text.isascii():
        return token._replace(kind="word")
    glued = before is not None and not token.spaced and before.kind in ("number", "close")
    joined = any(
        side is not None and ((side.kind == "operator" and side.text != ":") or OPERATOR_COMMAND.fullmatch(side.text))
        for side in (before, after)
    )
    return token._replace(kind="letter" if glued or joined else "word")


def _is_alone(token: Token, before: Token | None, after: Token | None) -> bool:
    """Whether a single letter stands among words, as an article, a name or a label does."""
    if not (token.text.isascii() or "α" <= token.text.lower() <= "ω"):
        return True
    left = before is not None and (
        (before.kind == "operator" and before.text != ":")
        or OPERATOR_COMMAND.fullmatch(before.text) is not None
        or before.kind == "open"
        or (not token.spaced and before.kind not in ("separator", "stop", "newline", "other", "operator"))
        or (before.kind == "number" and token.text not in "aAI")
    )
    right = after is not None and (
        (after.kind == "operator" and after.text not in (":", "!"))
        or OPERATOR_COMMAND.fullmatch(after.text) is not None
        or after.kind == "close"
        or (not after.spaced and after.kind in ("open", "command", "letter", "number", "formula", "text"))
        or (after.kind == "formula" and after.text[:1] in "=<>\\")
    )
    return not (left or right)
