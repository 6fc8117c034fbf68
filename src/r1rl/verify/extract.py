r"""Finds the final answer in a completion.

Only the text after the last ``</think>`` counts; the first match in this order wins:

1. the last ``\boxed{…}`` or ``\fbox{…}`` with balanced braces;
2. the last ``<answer>…</answer>`` (in prose inside it, by 3, 4 or 6);
3. the rest of the line after the last ``####`` (GSM8K), unless it reads as a Markdown heading;
4. the last ``A: …``, ``Answer: …`` at the start of a line, or ``answer is …``;
5. the whole text, where it is one bare expression;
6. the last number, with the arithmetic around it (``1 - 1/e`` is not read as 1).

Fenced code blocks are never read for an answer, not even a box inside one. Text with an unclosed ``<think>`` has no
answer. All scans are linear and bounded, so a hostile megabyte costs milliseconds.
"""

from __future__ import annotations

import re
from operator import methodcaller

MAX_ANSWER = 2_000
"""Longest accepted answer, in characters; longer ones are ignored."""

_TAIL = 20_000
_MAX_BOXES = 64
_FEW_WORDS = 4
"""Most words that count as the unit of a number; text with more words is a sentence."""
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HEADING = re.compile(r"[0-9]{1,2}[.)]\s|[^\W\d_]{2,}")  # "#### 2. Sum up" is Markdown
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)
_COLON = re.compile(r"^[ \t>*_#-]*(?:(?i:final)[ \t]+)?(?:(?i:answer)|A)[ \t*_]*[:：][ \t*_]*(\S.*)$", re.MULTILINE)
_ANSWER_IS = re.compile(r"\b(?i:answer)[ \t*_]+is[ \t*_]*[:：]?[ \t*_]*(\S.*)$", re.MULTILINE)
_INLINE_MATH = re.compile(r"\$\$?([^$\n]{1,500})\$\$?|\\\(([^\n]{1,500}?)\\\)|\\\[([^\n]{1,500}?)\\\]")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)(?<!\d\.(?=\d))")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FUNCTION_WORDS = re.compile(r"sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|infinity|[dt]?frac|cdot|times", re.IGNORECASE)

_NUMBER = r"[0-9][0-9,]{0,400}(?:\.[0-9]{1,400})?"
_ATOM = rf"(?:[$€£¥]\s?)?(?:\\?(?:sqrt|pi|ln|log|e)\b|{_NUMBER}|\.[0-9]{{1,400}}|\b[a-zA-Z]\b|[()])"
_OPERAND = rf"(?:{_ATOM}){{1,8}}!?%?"
_EXPRESSION = re.compile(rf"(?<![\w.,/])[-+−]?{_OPERAND}(?:[ \t]?[-+*/^×÷·−][ \t]?{_OPERAND}){{0,40}}")


def extract_answer(text: str) -> str | None:
    """The final answer of a completion by the order above, or None if there is none.

    A template's pre-filled ``<think>`` is not part of a completion: prepend it, or an unclosed thought is not detected.
    """
    response = final_response(text)
    if response is None:
        return None
    visible = without_fences(response)
    for rule in (_last_box, _last_tag, _last_hashes, _last_stated, _bare, _last_expression):
        answer = rule(visible)
        if answer is not None:
            return answer if len(answer) <= MAX_ANSWER else None
    return None


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


def _last_box(text: str) -> str | None:
    """The content of the last closed box, which may exceed the length limit; the caller rejects it then."""
    stop = limit = len(text)
    for _ in range(_MAX_BOXES):
        start = max(text.rfind("\\boxed", 0, stop), text.rfind("\\fbox", 0, stop))
        if start < 0:
            return None
        opened = _BOX.match(text, start)
        content = _balanced(text, opened.end(), limit) if opened else None
        if content is not None:
            return content.strip()
        stop, limit = start, start + MAX_ANSWER
    return None


def _balanced(text: str, start: int, limit: int) -> str | None:
    """The text between the brace before ``start`` and its closing brace before ``limit``."""
    depth = 1
    for match in _BRACE.finditer(text, start, limit):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if depth == 0:
                return text[start : match.start()]
    return None


def _last_tag(text: str) -> str | None:
    stop = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, stop) if stop >= 0 else -1
    if start < 0:
        return None
    content = text[start + len("<answer>") : stop].strip()
    prose = _last_expression(content) if _words(content) > _FEW_WORDS else None
    return _last_hashes(content) or _last_stated(content) or prose or content


def _last_hashes(text: str) -> str | None:
    _, hashes, rest = text.rpartition("####")
    line = rest.strip(" \t").partition("\n")[0].strip()
    return line if hashes and line and not _HEADING.match(line) and _words(line) <= _FEW_WORDS else None


def _last_stated(text: str) -> str | None:
    """The last ``A: …`` or ``answer is …``."""
    tail = text[-_TAIL:]
    found = [*_COLON.finditer(tail), *_ANSWER_IS.finditer(tail)]
    if not found:
        return None
    sentence = max(found, key=methodcaller("start", 1)).group(1)[:MAX_ANSWER]
    math = _INLINE_MATH.search(sentence)
    if math:
        return next(group for group in math.groups() if group is not None).strip()
    end = _SENTENCE_END.search(sentence)
    sentence = (sentence[: end.start()] if end else sentence).strip(" \t*_`.")
    if _words(sentence) > _FEW_WORDS:
        return _last_expression(sentence) or sentence
    return sentence or None


def _bare(text: str) -> str | None:
    """The whole text if it is one short line without prose."""
    line = text.strip()
    if not line or len(line) > 200 or "\n" in line or _words(line):
        return None
    return line


def _words(text: str) -> int:
    return sum(not _FUNCTION_WORDS.fullmatch(word) for word in _WORD.findall(text))


def _last_expression(text: str) -> str | None:
    last = None
    for match in _EXPRESSION.finditer(text[-MAX_ANSWER:]):
        if any(character.isdigit() for character in match.group()):
            last = match.group()
    return last.strip(" \t,") if last else None
