r"""Reads a value out of prose: a run of mathematics is taken whole, or it is not taken.

A run is everything between two words that may belong to one expression: formulas, numbers with their units, plain or
LaTeX operators, brackets, and values joined by commas, ``and`` or ``or``. It is unreadable where its brackets do not
match, where an operator has no operand, where two values stand side by side, or where the words next to it change its
value (``the square root of 3``, ``5 to 6``, ``3 squared``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from r1rl.verify.tokens import OPERATOR_COMMAND, Token, tokenise

MAX_PHRASE = 2_000
"""Longest stretch of prose that is read, in characters."""

_MATHEMATICS = frozenset(
    "text command currency number letter function operator formula unit cut open close".split()  # noqa: SIM905
)
_VALUES = frozenset(("number", "formula", "unit"))
_BREAKS = frozenset(("word", "stop", "newline", "alone", "other"))
_SIGNS = frozenset("+-−±∓")
_PREFIXES = _SIGNS | frozenset("√|∞∅½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞")
_SUFFIXES = frozenset((*"%°!'′|…∞∅½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞⁰¹²³⁴⁵⁶⁷⁸⁹⁾ⁿ₀₁₂₃₄₅₆₇₈₉", "..."))
_EQUALS = frozenset(("=", "==", "≈"))
_OPENS = re.compile(r"(?:[-+*/^=<>(\[,]|\\(?:cdot|times|div|leq?|geq?|neq?|lt|gt|in|approx|pm|cup|cap|equiv))\s*$")
_CONTINUES = re.compile(
    r"[+*/^=<>)\],!%]|-(?!\d)|\\(?:cdot|times|div|leq?|geq?|neq?|lt|gt|in|approx|pm|cup|cap|equiv|%|circ)(?![a-z])"
)
_AND_OR = re.compile(r"(?:\\[a-z]+\s*\{)?\s*,?\s*(?:and|or)\s*\}?", re.IGNORECASE)
_FRACTION_WORDS = r"(?:half|halves|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?|hundredths?)"
_SCALES = re.compile(r"\s?(?:hundred|thousand|million|billion|trillion|dozen)s?\b|[百千万亿]+")
_CHANGED_AFTER = re.compile(
    rf"\s*(?:and (?:a|an|one|two|three|four|five)[ -]{_FRACTION_WORDS}|squared|cubed|factorial|{_FRACTION_WORDS}\b"
    r"|to the (?:power|\w+ power)|times as|分之|倍|st\b|nd\b|rd\b|th\b)"
)
_CHANGED_BEFORE = re.compile(
    r"\b(?:root|sum|product|difference|quotient|average|mean|logarithm|power|half|third|quarter|square|cube|twice|double"
    r"|triple|factorial|inverse|reciprocal|percent|fraction|modulo|mod)\s+(?:of\s+)?(?:the\s+)?$|分之$",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(r"\b(?:negative|minus)\s+$", re.IGNORECASE)
_OPERATOR_WORDS = frozenset(
    """to of in over times plus minus by out divided multiplied more less fewer than greater smaller raised power
    squared cubed added subtracted from into mod modulo choose percent per every half third""".split()  # noqa: SIM905
)
_CONDITION = re.compile(
    r"\b(?:where|for|all|when|if|with|since|because|as|given|whenever|provided|let|assuming|which|whose|while|unless"
    r"|such that|so that|satisfying|although|using)\s+$",
    re.IGNORECASE,
)
_BRIEF = 3
"""Most words of a last sentence that is itself an answer."""
_NO_WORD = re.compile(r"\\[a-zA-Z]+|[\W\d_]")
_COURTESY = re.compile(
    r"\b(?:hope|thanks?|luck|done|qed|q\.e\.d|cheers|enjoy|great|that's|welcome|correct|end)\b", re.IGNORECASE
)
_CONCLUDES = re.compile(
    r"\s*[*_#>]*\s*(?:so|therefore|thus|hence|consequently|in conclusion"
    r"|the (?:final |correct |right )?(?:result|value|answer)|we (?:get|find|conclude|obtain|have)|it follows)\b",
    re.IGNORECASE,
)
_NAMED_LAST = re.compile(
    r"\s*(?:is|are|be)\s+(?:the|our|a|an|your|its)\s+(?:\w+\s+){0,2}?"
    r"(?:answers?|solutions?|results?|values?|roots?|total|sum|probability|number|maximum|minimum|area|length)\b"
)
_ARITHMETIC = re.compile(r"[-+*/^×÷·−]|\\(?:cdot|times|div|[dtc]?frac|sqrt)(?![a-z])|[0-9]\s*x\s*[0-9]|[0-9]\s*%?\s*\(")
_HAS_LETTER = re.compile(
    r"(?<![\\a-zA-Z])[a-zA-Z]|\\(?!cdot|times|div|[dtc]?frac|sqrt|%|\$|,|!|;|:| |left|right|text)[a-z]"
)
_EQUAL_SIGNS = re.compile(r"(?<![<>!=\\])={1,2}(?!=)|≈|\\approx(?![a-z])")
_RELATION = re.compile(r"[<>≤≥≠∈]|!=|\\(?:leq?|geq?|neq?|lt|gt|in)(?![a-z])")
_TEXT_MARKUP = re.compile(r"\\(?:text|mathrm|textbf|textrm|mbox)\s*\{[^{}]*\}")
_BARE_NAME = re.compile(r"\s*\\?[a-zA-Z]+(?:_\{?\w+\}?)?\s*|\s*[A-Z]{2,4}\s*")
_ORNAMENT = re.compile(r"\\(?:blacksquare|square|Box|qed|checkmark|therefore|because|quad|qquad|tag\{[^{}]*\})|[\s.,;]")
_TAG = re.compile(r"\\(?:tag|label)\*?\{[^{}]*\}")
_ENVIRONMENT = re.compile(r"\\begin\{(?:aligned|split|gathered)\}|\\end\{(?:aligned|split|gathered)\}")
_ROW = re.compile(r"\\\\(?![a-zA-Z{}])(?:\[[^\]]*\])?")
_ROWS = re.compile(r"\\begin\{(?:[pbBvV]?matrix|smallmatrix|array|cases)")


@dataclass(slots=True)
class MathRun:
    """Consecutive tokens of one expression, and whether it can be read."""

    tokens: list[Token] = field(default_factory=list)
    readable: bool = True

    @property
    def start(self) -> int:
        """Where it begins in the text."""
        return self.tokens[0].start

    @property
    def end(self) -> int:
        """Where it ends in the text."""
        return self.tokens[-1].end

    @property
    def is_formula(self) -> bool:
        """Whether part of it stood between formula delimiters."""
        return any(token.kind == "formula" for token in self.tokens)


class Prose:
    """A stretch of prose, its tokens and the runs of mathematics in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _in_words(tokenise(text))
        self.runs = [run for run in _runs(self.tokens) if not _is_ornament(run)]
        for index, run in enumerate(self.runs):
            self._qualify(run, self.runs[index + 1] if index + 1 < len(self.runs) else None)

    def sentence_of(self, run: MathRun) -> tuple[int, int]:
        """The bounds of the sentence that a run is in."""
        start, end = 0, len(self.text)
        for token in self.tokens:
            if token.kind in ("stop", "newline"):
                if token.end <= run.start:
                    start = token.end
                elif token.start >= run.end:
                    return start, token.start
        return start, end

    def is_condition(self, run: MathRun) -> bool:
        """Whether a run says where something holds, as after "for all" or "where"."""
        return _CONDITION.search(self.text, max(0, run.start - 40), run.start) is not None

    def concludes_later(self, run: MathRun) -> bool:
        """Whether a later sentence states a result in words, or is so short that it must be one."""
        starts = [token.end for token in self.tokens if token.kind in ("stop", "newline") and token.start >= run.end]
        for start, end in pairwise([*starts, len(self.text)]):
            words = _NO_WORD.sub(" ", self.text[start:end]).split()
            brief = 0 < len(words) <= _BRIEF
            if _CONCLUDES.match(self.text, start) or (brief and not _COURTESY.search(self.text, start, end)):
                return True
        return False

    def words_between(self, start: int, end: int) -> list[str]:
        """The words between two places, in lower case."""
        inside = (token for token in self.tokens if token.start >= start and token.end <= end)
        return [token.text.lower() for token in inside if token.kind in ("word", "alone")]

    def value(self, run: MathRun) -> str | None:
        """What a run says, as one text; None if it is unreadable. A computation is worth its last side."""
        written = _written(self.text, run)
        sides = _EQUAL_SIGNS.split(written)
        plain = _TEXT_MARKUP.sub("", written)
        computed = len(sides) > 1 and not _HAS_LETTER.search(plain) and not _RELATION.search(written)
        if computed and (_ARITHMETIC.search("".join(sides[:-1])) or not sides[0].strip()):
            return sides[-1].strip() or None
        if not run.readable:
            return None
        if _NEGATIVE.search(self.text, 0, run.start) and written[:1].isdigit():
            return f"-{written}"
        return written

    def _qualify(self, run: MathRun, after: MathRun | None) -> None:
        """Mark a run that the words around it change, or join to the next one by more than a list."""
        if _CHANGED_BEFORE.search(self.text, max(0, run.start - 60), run.start):
            run.readable = False
        scale = _SCALES.match(self.text, run.end)
        if scale:
            run.tokens.append(Token("word", run.end, scale.end(), scale.group().strip(), scale.group()[0] == " "))
        if _CHANGED_AFTER.match(self.text, run.end):
            run.readable = False
        if after is None:
            return
        words = self.words_between(run.end, after.start)
        between = [token for token in self.tokens if token.start >= run.end and token.end <= after.start]
        if words and len(words) == len(between) and all(word in _OPERATOR_WORDS or word == "the" for word in words):
            run.readable = after.readable = False


def last_value(text: str) -> tuple[str | None, bool] | None:
    """(the last value in prose or None where it is unreadable, whether it is a formula); None if there is none."""
    prose = Prose(text)
    for run in reversed(prose.runs):
        if not _is_weak(run):
            chosen = _conclusion(prose, run) if prose.concludes_later(run) else _of_sentence(prose, run)
            return (prose.value(chosen), chosen.is_formula) if chosen else (None, False)
    names = [run for run in prose.runs if run.is_formula]
    return (prose.value(names[-1]), True) if names else None


def _conclusion(prose: Prose, run: MathRun) -> MathRun | None:
    """The formula, if only a name, that a later sentence concludes with."""
    named = [later for later in prose.runs if later.start >= run.end and later.is_formula]
    return named[-1] if named else None


def _of_sentence(prose: Prose, last: MathRun) -> MathRun:
    """The run that a sentence with this last one is about: one that "is the answer", or the last that is no
    condition."""
    start, end = prose.sentence_of(last)
    inside = [run for run in prose.runs if run.start >= start and run.end <= end and not _is_weak(run)]
    for run in inside:
        if _NAMED_LAST.match(prose.text, run.end):
            return run
    stated = [run for run in inside if not prose.is_condition(run)]
    return stated[-1] if stated else last


def _is_weak(run: MathRun) -> bool:
    """Whether a run only names something: ``$x$``, ``AB``."""
    return all(token.kind in ("formula", "letter") for token in run.tokens) and all(
        _BARE_NAME.fullmatch(token.text) for token in run.tokens
    )


def _is_ornament(run: MathRun) -> bool:
    return all(not _ORNAMENT.sub("", token.text) for token in run.tokens if token.kind != "cut") and not any(
        token.kind == "cut" for token in run.tokens
    )


def _in_words(tokens: list[Token]) -> list[Token]:
    """The tokens, with the brackets of prose (those around words, and list labels) as breaks, unmatched ones as
    ``cut``."""
    tokens, stack = list(tokens), []
    for index, token in enumerate(tokens):
        if token.kind == "open":
            stack.append(index)
        elif token.kind == "close":
            label = not stack and _starts_line(tokens, index - 1)
            if not stack:
                tokens[index] = token._replace(kind="other" if label else "cut")
                if label:
                    tokens[index - 1] = tokens[index - 1]._replace(kind="other")
                continue
            opened = stack.pop()
            if any(inner.kind in _BREAKS for inner in tokens[opened + 1 : index]) or _is_label(tokens, opened, index):
                for place in (opened, index):
                    tokens[place] = tokens[place]._replace(kind="other")
    for index in stack:
        tokens[index] = tokens[index]._replace(kind="cut")
    return tokens


def _starts_line(tokens: list[Token], index: int) -> bool:
    return index == 0 or (index > 0 and tokens[index - 1].kind == "newline")


def _is_label(tokens: list[Token], opened: int, closed: int) -> bool:
    """``(a)`` or ``(1)`` at the start of a line, before something else."""
    if closed - opened != 2 or not _starts_line(tokens, opened) or closed + 1 >= len(tokens):
        return False
    inner, after = tokens[opened + 1], tokens[closed + 1]
    if not after.spaced or after.kind in ("operator", "separator") or tokens[opened].text != "(":
        return False
    return (inner.kind == "letter" and inner.text.islower()) or (inner.kind == "number" and len(inner.text) < 3)


def _runs(tokens: list[Token]) -> Iterator[MathRun]:
    """The runs of mathematics, in order."""
    run, depth = MathRun(), 0
    for index, token in enumerate(tokens):
        joint = token.kind == "separator" or _AND_OR.fullmatch(token.text) is not None
        if joint and run.tokens and (depth > 0 or _starts_value(tokens, index + 1)):
            run.tokens.append(token)
        elif token.kind in _MATHEMATICS and not joint and not _is_punctuation(tokens, index, run, depth):
            depth += {"open": 1, "close": -1}.get(token.kind, 0)
            run.readable &= token.kind != "cut" and not _is_side_by_side(run, token)
            run.tokens.append(token)
        else:
            yield from _finished(run)
            run, depth = MathRun(), 0
    yield from _finished(run)


def _starts_value(tokens: list[Token], index: int) -> bool:
    """Whether a value follows, perhaps after another separator or ``and``."""
    while index < len(tokens) and (tokens[index].kind == "separator" or _AND_OR.fullmatch(tokens[index].text)):
        index += 1
    if index >= len(tokens):
        return False
    token = tokens[index]
    if token.kind == "operator":
        return token.text in _PREFIXES and index + 1 < len(tokens) and tokens[index + 1].kind in _MATHEMATICS
    return token.kind in _MATHEMATICS and token.kind not in ("close", "unit")


def _is_punctuation(tokens: list[Token], index: int, run: MathRun, depth: int) -> bool:
    """Whether a sign that may be an operator is punctuation here: a colon, a dash, a quotation mark, a bullet."""
    token = tokens[index]
    after = tokens[index + 1] if index + 1 < len(tokens) else None
    if token.kind != "operator" or depth:
        return False
    spaced_after = after is None or after.spaced or after.kind == "newline"
    if token.text == ":":
        return not run.tokens or (spaced_after and not token.spaced)
    if token.text in ("'", "_", "&", "′"):
        return not run.tokens or token.spaced or run.tokens[-1].kind not in ("letter", "close", "number", "command")
    if run.tokens:
        return False
    line_start = index == 0 or tokens[index - 1].kind == "newline"
    bullet = token.text in ("*", "-", "+", ">", "−") and line_start and index > 0
    return spaced_after and (bullet or token.text in ("!", "|", "≈"))


def _is_side_by_side(run: MathRun, token: Token) -> bool:
    """Whether a token and the one before it are two values without anything that joins them."""
    if not run.tokens:
        return False
    before = run.tokens[-1]
    if token.kind == "open" and token.spaced and before.kind in (*_VALUES, "close") and token.text in "([":
        return True
    if token.kind == "currency":
        return before.kind not in ("operator", "number", "open", "separator", "word", "unit")
    if before.kind == "currency":
        return token.kind not in ("number", "formula", "operator", "separator", "word")
    if before.kind not in (*_VALUES, "letter") or token.kind not in _VALUES or token.kind == "unit":
        return False
    if before.kind == "unit":  # 5 feet 6 inches
        return token.kind == "formula"
    if before.kind == "letter" and (not token.spaced or token.kind == "formula"):
        return False
    if before.kind == "formula" and _OPENS.search(before.text):
        return False
    return not (token.kind == "formula" and _CONTINUES.match(token.text))


def _finished(run: MathRun) -> Iterator[MathRun]:
    """The run without what only leads to it or follows it; marked unreadable if an operator lacks an operand."""
    tokens = run.tokens
    while tokens and (tokens[-1].kind in ("separator", "word") or tokens[-1].text == ":"):
        tokens.pop()
    while tokens and tokens[0].kind == "operator" and tokens[0].text in _EQUALS:
        del tokens[0]
        run.readable &= bool(tokens)
    if not any(token.kind not in ("operator", "separator", "currency", "unit") for token in tokens):
        return
    first, last = tokens[0], tokens[-1]
    for before, token, after in zip(tokens, tokens[1:], [*tokens[2:], None], strict=False):
        if before.kind == "unit" and token.kind == "number":
            run.readable &= after is not None and after.kind == "unit" and after.text != before.text
    if OPERATOR_COMMAND.fullmatch(first.text) and first.text not in ("\\pm", "\\mp"):
        run.readable = False
    if OPERATOR_COMMAND.fullmatch(last.text):
        run.readable = False
    if first.kind == "operator":
        run.readable &= first.text in _PREFIXES and not (first.text in _SIGNS and first.spaced and tokens[1].spaced)
    if last.kind == "operator":
        run.readable &= last.text in _SUFFIXES
    run.readable &= last.kind != "function" and not (last.kind == "formula" and bool(_OPENS.search(last.text)))
    yield run


def _written(text: str, run: MathRun) -> str:
    """The run as one expression: its text, with the content of its formulas in their place."""
    parts: list[str] = []
    for index, token in enumerate(run.tokens):
        written = _content(token.text) if token.kind == "formula" else token.text
        between = index > 0 and index + 1 < len(run.tokens)
        if token.text == "x" and between and run.tokens[index - 1].kind == run.tokens[index + 1].kind == "number":
            written = "\\times"
        parts.append(f" {written}" if token.spaced and parts else written)
    return "".join(parts).strip()


def _content(formula: str) -> str:
    """A formula's last statement: its last row, with the rows that this continues, without numbering and alignment."""
    formula = _TAG.sub("", formula).strip()
    rows = [] if _ROWS.search(formula) else _ROW.split(_ENVIRONMENT.sub("", formula))
    if len(rows) > 1:
        formula = ""
        for row in filter(None, (" ".join(row.replace("&", " ").split()) for row in rows)):
            continues = row[0] in "=<>" or row.startswith("\\approx")
            formula = f"{formula} {row}" if continues else row
    formula = formula.rstrip(" .,;").removesuffix("\\").strip()
    inner = formula[1:-1]
    return inner if formula[:1] == "{" and formula[-1:] == "}" and "{" not in inner and "}" not in inner else formula
