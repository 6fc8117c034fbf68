r"""Finds the final answer in a completion, whole or not at all.

Only the text after the last ``</think>`` counts; the first rule that finds something decides:

1. ``box``: the last ``\boxed{…}`` or ``\fbox{…}`` with balanced braces; several in one sentence are one answer;
2. ``answer_tag``: the last ``<answer>…</answer>`` (in prose inside it, by 3, 4 or 6);
3. ``hashes``: the rest of the line after the last ``####`` (GSM8K), unless it reads as a Markdown heading;
4. ``phrase``: what follows the last ``A:`` or ``Answer:``, or ``answer is``, in the common languages;
5. ``bare``: the whole text, where it is one expression;
6. ``formula`` or ``bare``: the last formula, or the last expression in plain text, with all that belongs to it.

An expression that cannot be read whole (its brackets do not match, an operator has no operand, words around it change
its value) gives no answer, and neither does an answer that the sentence takes back (``\boxed{5} is wrong``). Fenced
code blocks are never read. Text with an unclosed ``<think>`` has no answer. All scans are linear and bounded, so a
hostile megabyte costs milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from r1rl.verify.phrase import read_phrase
from r1rl.verify.prose import MAX_PHRASE, last_value

MAX_ANSWER = 2_000
"""Longest accepted answer, in characters; longer ones are ignored."""

Rule = Literal["box", "answer_tag", "hashes", "phrase", "formula", "bare"]
RULES: tuple[Rule, ...] = get_args(Rule)
AnswerPlace = Literal["box", "answer_tag", "any"]
"""Where an answer must stand to be read: in a box, in the tags, or anywhere by the rules above."""
PLACES: tuple[AnswerPlace, ...] = get_args(AnswerPlace)

_TAIL = 20_000
_FAR = 20_000
"""Where a box has not closed after so many characters, it is taken for one that never does."""
_MAX_BOXES = 64
_FEW_WORDS = 4
"""Most words that count as the unit of a number; text with more words is a sentence."""
_MOST_GOLD_WORDS = 25
"""Most words of a gold answer that is not a worked solution."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HEADING = re.compile(r"[0-9]{1,2}[.)]\s|[^\W\d_]{2,}")  # "#### 2. Sum up" is Markdown
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_DELIMITER = re.compile(r"\$|\\[(\[]")
_ONE_FORMULA = re.compile(r"(?:\$\$?[^$]*\$\$?|\\\((?:(?!\\\)).)*\\\)|\\\[(?:(?!\\\]).)*\\\])\.?$", re.DOTALL)
_MARK_UP = re.compile(
    r"<<[^<>\n]{0,200}>>|<\|[a-z_]{1,30}\|>.{0,20}$|`+"
    r"|(?P<tag></?(?i:answer|think|solution|s|b|strong|em|i|u|p|br ?/?)>)"
)
"""GSM8K's calculator notes, the marks of chat templates, code quotes, and tags, which separate."""
_BOLD = re.compile(
    r"(?<![\w*])\*\*\*?(?=[^\s*])([^\n]{1,500}?)(?<=[^\s*])\*\*\*?(?![\w*])"
    r"|(?<![\w*])\*(?=[^\s*])([^*\n]{1,500}?)(?<=[^\s*])\*(?![\w*])|(?<![\w_])__([^_\n]{1,500}?)__(?!\w)"
)
_COLON = re.compile(
    r"(?:^[ \t>*_#-]*|(?<=[.!?]\s))A[ \t*_]*[:：]"
    r"|\b(?i:answers?|antwort|respuesta|réponse|risposta|resposta)[ \t*_]*[:：]|(?:答案|答|Ответ)[:：]",
    re.MULTILINE,
)
_ANSWER_IS = re.compile(
    r"(?:\b(?i:answers?)\b(?:,?[ \t]+(?:to|for|of|in|we|I|here|therefore|thus|then|so|would|should|must|will|now"
    r"|finally|indeed|that|choice|option)\b[^.\n:=0-9]{0,60}?)?[ \t*_]+(?:is|are|be|was|equals|becomes)\b"
    r"|\b(?:correct|right|best)[ \t]+(?:option|choice)[ \t]+is\b"
    r"|\b(?i:respuesta[^.\n]{0,30}? es|réponse[^.\n]{0,30}? est|antwort[^.\n]{0,30}? (?:ist|lautet)|risposta è)\b"
    r"|(?:答案|结果)(?:应该?|便|就)?(?:是|为|選|选)|(?:故|应|所以|因此)选(?:择)?|故(?:填|答案为))[ \t*_]*[:：]?"
)
_HEADED = re.compile(r"^[ \t>*_#-]*(?i:(?:the[ \t]+)?final[ \t]+answer|answer)[ \t*_:]*\n", re.MULTILINE)
_TAKEN_BACK = re.compile(
    r"[\s$)\]\\}.,*]{0,6}(?:(?:which |that |this |it )?(?:isn't|wasn't|can't be|cannot be|can not be)\b"
    r"|(?:which |that |this |it )?(?:is|was|are|were)\s+(?:clearly |obviously |certainly |also |actually |surely )?"
    r"(?:not\b|wrong|incorrect|false|invalid|a wrong|an incorrect|a mistake|impossible))",
    re.IGNORECASE,
)
_DENIED = re.compile(r"\b(?:not|never|isn't|instead of|rather than)\s*[\s$(\[\\*]{0,4}$", re.IGNORECASE)
_FINALLY = re.compile(r"\b[Ff]inal [Aa]nswer(?: is\b|[ *]*:)")
_STOP = re.compile(r"[.!?。！？](?=\s|$|\$)|\n\s*\n")
_GAP = 200
"""Most characters between two boxes of one answer."""
_MOST_BETWEEN = 6
"""Most words between them."""
_OPERATOR = re.compile(r"[-+*/^×·÷]|\\(?:cdot|times|div|pm)(?![a-z])")
_AND_OR = re.compile(r"\b(?:and|or)\b")
_BETWEEN = re.compile(
    r"\\[()\[\]]|\$|\\[,;:! ]|\\q?quad(?![a-zA-Z])|\\text\w*\s*\{([^{}]*)\}|[a-zA-Z]\w?(?:_\{?\w+\}?)?\s*=|[\s*]"
)
_PARTING = re.compile(
    r"[=≈<>→:]|\\(?:approx|to|implies|Rightarrow|iff)|\b(?:no|not|wait|actually|instead|rather|wrong|oops|sorry|hmm|so"
    r"|correct|which|that|equals?|simplif\w+|thus|therefore|hence|becomes?|i\.e|equivalently|approximately|then|but|is)\b",
    re.IGNORECASE,
)
_SEPARATES = re.compile(r"[,;]|\b(?:and|or)\b")
_PLAIN_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION_WORDS = re.compile(r"sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|infinity|[dt]?frac|cdot|times", re.IGNORECASE)


class FoundAnswer(NamedTuple):
    """A final answer as it is written, and the rule that found it."""

    text: str
    rule: Rule


class _Unreadable(Exception):
    """There is an answer, but it cannot be read whole, or it is taken back."""


def extract_answer(text: str, require: AnswerPlace = "any") -> str | None:
    """The final answer of a completion by the rules above, or None if there is none.

    A template's pre-filled ``<think>`` is not part of a completion: prepend it, or an unclosed thought is not detected.
    """
    found = find_answer(text, require)
    return found.text if found else None


def find_answer(text: str, require: AnswerPlace = "any") -> FoundAnswer | None:
    """The final answer and the rule that found it, or None; only in a box, or only in the tags, where required."""
    response = final_response(text)
    if response is None:
        return None
    visible = without_fences(response)
    try:
        for rule in _RULES[require]:
            answer = rule(visible)
            if answer is not None:
                return answer if len(answer.text) <= MAX_ANSWER else None
    except _Unreadable:
        return None
    return None


def gold_answer(text: str) -> str:
    r"""A gold answer as a dataset has it; of a worked solution, its ``\boxed{…}``, ``#### …`` or final answer."""
    worked = "\\boxed" in text or "####" in text or (len(text.split()) > _MOST_GOLD_WORDS and "answer" in text)
    return (extract_answer(text) if worked else None) or text


def final_response(text: str) -> str | None:
    """The text after the last ``</think>``; the whole text if it has no thought; None if a thought is still open."""
    _, closed, response = text.rpartition("</think>")
    if "<think>" in response:
        return None
    return response if closed else text


def without_fences(text: str) -> str:
    """The text without its closed ``` blocks."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    kept, end = [], 0
    for start, stop in zip(fences[0::2], fences[1::2], strict=False):
        kept.append(text[end:start])
        newline = text.find("\n", stop)
        end = len(text) if newline < 0 else newline
    return "".join(kept) + text[end:]


def _in_box(text: str) -> FoundAnswer | None:
    """The last closed box with those of its sentence; it may exceed the length limit, which the caller checks."""
    box = _last_box(text, len(text))
    if box is None:
        return None
    if _TAKEN_BACK.match(text, box.end) or _DENIED.search(text, max(0, box.start - 20), box.start):
        raise _Unreadable
    later = _FINALLY.search(text, box.end) if "inal" in text[box.end : box.end + _TAIL] else None
    if later and (stated := _after_phrase(text[later.start() :])) and any(map(str.isdigit, stated.text)):
        return stated
    answer = box.content
    for _ in range(_MAX_BOXES):
        before = _last_box(text, box.start, max(0, box.start - _GAP - MAX_ANSWER))
        joint = _joint(text[before.end : box.start]) if before else None
        if before is None or joint is None:
            break
        answer = answer if before.content == box.content else f"{before.content}{joint}{answer}"
        box = before
    return FoundAnswer(answer, "box")


class _Box(NamedTuple):
    start: int
    end: int
    content: str


def _last_box(text: str, stop: int, low: int = 0) -> _Box | None:
    """The last closed box that begins between two places."""
    limit = stop
    for _ in range(_MAX_BOXES):
        start = max(text.rfind("\\boxed", low, stop), text.rfind("\\fbox", low, stop))
        if start < 0:
            return None
        opened = _BOX.match(text, start)
        end = _balanced(text, opened.end(), min(limit, start + _FAR)) if opened else None
        if opened and end is not None:
            return _Box(start, end + 1, text[opened.end() : end].strip())
        stop, limit = start, start + MAX_ANSWER
    return None


def _balanced(text: str, start: int, limit: int) -> int | None:
    """The place of the brace, before ``limit``, that closes the one before ``start``."""
    depth = 1
    for match in _BRACE.finditer(text, start, limit):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return None


def _joint(gap: str) -> str | None:
    """What joins two boxes into one answer: a comma where the text lists them, the operator between them; or None."""
    if len(gap) > _GAP or _STOP.search(gap):
        return None
    core = _BETWEEN.sub(_content_of_text, gap)
    if not core.strip():
        return ", "
    if _OPERATOR.fullmatch(core.strip()):
        return f" {core.strip()} "
    words = len(_PLAIN_WORD.findall(core))
    if _PARTING.search(core) or not _SEPARATES.search(core) or words > _MOST_BETWEEN:
        return None
    return ", " if words == 0 or _AND_OR.search(core) else None


def _content_of_text(match: re.Match[str]) -> str:
    return f" {match.group(1) or ''} "


def _in_tag(text: str) -> FoundAnswer | None:
    """The content of the last ``<answer>…</answer>``; in prose, the value that it states."""
    stop = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, stop) if stop >= 0 else -1
    if start < 0:
        return None
    content = text[start + len("<answer>") : stop].strip()
    found = _in_box(content) or _after_hashes(content) or _after_phrase(content)
    if found is None and _is_prose(content):
        found = _last(content)
    return FoundAnswer(found.text if found else content, "answer_tag")


def _is_prose(content: str) -> bool:
    """Whether there are words that are neither a unit nor in the one formula that there is."""
    words = _words(content)
    formula = _DELIMITER.search(content) is not None and not _ONE_FORMULA.match(content)
    return words > _FEW_WORDS or (words > 0 and formula)


def _after_hashes(text: str) -> FoundAnswer | None:
    _, hashes, rest = text.rpartition("####")
    line, _, after = rest.strip(" \t").partition("\n")
    line = line.strip()
    if not hashes or not line or (_HEADING.match(line) and after.strip()) or _words(line) > _FEW_WORDS:
        return None
    return FoundAnswer(line, "hashes")


def _after_phrase(text: str) -> FoundAnswer | None:
    """What follows the last ``A: …``, ``answer is …`` or the like, up to the end of its sentence."""
    tail = _tidy(text[-_TAIL:])
    anchors = [match.end() for pattern in _ANCHORS for match in pattern.finditer(tail)]
    if not anchors:
        return None
    phrase = tail[max(anchors) :][: 2 * MAX_PHRASE].lstrip(" \t\n:：*_")[:MAX_PHRASE]
    if not phrase:
        return None
    value = read_phrase(phrase)
    if value is None:
        raise _Unreadable
    return FoundAnswer(value, "phrase")


def _bare(text: str) -> FoundAnswer | None:
    """The whole text if it is one short line without prose."""
    line = text.strip()
    if not line or len(line) > 200 or "\n" in line or "$" in line or "\\(" in line or "\\[" in line or _words(line):
        return None
    return FoundAnswer(line, "bare")


def _last(text: str) -> FoundAnswer | None:
    """The last value in prose."""
    found = last_value(_tidy(text[-MAX_PHRASE:]))
    if found is None:
        return None
    value, is_formula = found
    if value is None:
        raise _Unreadable
    return FoundAnswer(value, "formula" if is_formula else "bare")


def _words(text: str) -> int:
    return sum(not _FUNCTION_WORDS.fullmatch(word) for word in _PLAIN_WORD.findall(text))


def _tidy(text: str) -> str:
    """Prose without emphasis, the marks of chat templates and calculator notes."""
    return _BOLD.sub(_emphasised, _MARK_UP.sub(_separated, text))


def _separated(match: re.Match[str]) -> str:
    return " " if match["tag"] else ""


def _emphasised(match: re.Match[str]) -> str:
    return match.group(match.lastindex or 0)


_ANCHORS = (_COLON, _ANSWER_IS, _HEADED)
_RULES: dict[AnswerPlace, tuple[Callable[[str], FoundAnswer | None], ...]] = {
    "box": (_in_box,),
    "answer_tag": (_in_tag,),
    "any": (_in_box, _in_tag, _after_hashes, _after_phrase, _bare, _last),
}
