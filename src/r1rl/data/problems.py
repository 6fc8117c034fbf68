"""Turns rows into problems, with rendered prompt and gold answer, in training and evaluation sets checked to be
disjoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from r1rl.config.data import DatasetConfig, DifficultyConfig, PromptConfig
from r1rl.data.column_check import PLACE, missing_columns
from r1rl.data.files import SourceRow
from r1rl.data.filters import duplicate_key
from r1rl.data.sources import SourceRows, read_rows
from r1rl.data.templates import Question, Rendered, render_all
from r1rl.errors import DataError
from r1rl.types import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(slots=True)
class ProblemSets:
    """Problems by source name, and the numbers of skipped rows, by source and reason.

    The reasons: ``corrupt`` (unreadable line), ``bad_row`` (no question, no gold answer, a lone surrogate),
    ``too_long``, ``overlap`` (also an evaluation question), ``difficulty`` (outside the bounds of ``data.difficulty``).
    """

    by_source: dict[str, list[Problem]] = field(default_factory=dict)
    skipped: dict[str, Counter[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.by_source.values()))

    @property
    def problems(self) -> list[Problem]:
        """All problems, source by source."""
        return [problem for source in self.by_source.values() for problem in source]

    def renamed(self, rename: Callable[[str], str]) -> ProblemSets:
        """The same sets with the ``source`` of every problem renamed."""
        sets = {name: [replace(p, source=rename(name)) for p in each] for name, each in self.by_source.items()}
        return ProblemSets(sets, self.skipped)

    def metrics(self) -> dict[str, int]:
        """``data/SOURCE/problems`` and ``data/SOURCE/skipped_REASON``."""
        counts = {f"data/{name}/problems": len(problems) for name, problems in self.by_source.items()}
        for name, reasons in self.skipped.items():
            counts |= {f"data/{name}/skipped_{reason}": count for reason, count in reasons.items()}
        return counts


def load_problems(
    sources: Mapping[str, DatasetConfig],
    prompt: PromptConfig,
    tokenizer: PreTrainedTokenizerBase,
    response: str | None = None,
) -> ProblemSets:
    """Reads every source and renders its prompts; a source's own ``prompt`` takes precedence over the run's.

    With ``response``, a conversation may end with the assistant's message, which then becomes the column of this name;
    the messages before it are the question.

    A problem's ``columns`` are those of its source, None where the row lacks one, and always ``question`` (as the
    dataset has it) and, where the source has one, ``answer``: the gold answer, as text if it was text or a number.
    Skipped rows are counted and logged.

    Raises DataError for what ``read_rows`` cannot read, a missing column, a row without question or gold answer or with
    a lone surrogate (unless ``on_bad_row: skip``), a prompt longer than ``prompt.max_tokens`` (unless ``too_long:
    skip``), and a source with nothing left.
    """
    sets = ProblemSets()
    for name, config in sources.items():
        rows = read_rows(config)
        problems = Source(name, config, config.prompt or prompt, response).problems(rows, tokenizer)
        if rows.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in rows.skipped.items())
            log.warning("data source %s: %d problems; skipped rows: %s", name, len(problems), reasons)
            if not problems:
                raise DataError(f"data source {name} ({config.path}) has no usable row; skipped rows: {reasons}")
        sets.by_source[name] = problems
        sets.skipped[name] = rows.skipped
    return sets


class BadRow(ValueError):
    """A row without a usable question or gold answer, or with text that is not Unicode."""


class Source:
    """Turns the rows of one source into problems."""

    def __init__(self, name: str, config: DatasetConfig, prompt: PromptConfig, response: str | None = None) -> None:
        self.name, self.config, self.prompt, self.response = name, config, prompt, response
        self.pattern = re.compile(config.answer_pattern) if config.answer_pattern else None

    def problems(self, rows: SourceRows, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        self.require_columns(rows)
        kept: list[tuple[SourceRow, Question, dict[str, Any]]] = []
        for row in rows.rows:
            try:
                question, said = self._split(self.question(row.values))
                columns = {**dict.fromkeys(self.there), **said, **row.values}  # None if only other rows have it
                kept.append((row, question, {**columns, "question": question, **self._gold(row.values)}))
            except BadRow as error:
                if self.config.on_bad_row == "error":
                    raise DataError(f"{self._at(row)}: {error}; fix it, or set on_bad_row: skip") from error
                rows.skipped["bad_row"] += 1
        rendered = self._rendered([(row, question) for row, question, _ in kept], tokenizer)
        seen: Counter[str] = Counter()
        problems = []
        for (row, _, columns), prompt in zip(kept, rendered, strict=True):
            if self._fits(prompt, row, rows.skipped):
                problem_id = self._id(row, seen)
                problems.append(
                    Problem(problem_id, prompt.prompt_ids, prompt.prompt, columns, self.name, prompt.prefill)
                )
        return problems

    def _rendered(self, asked: list[tuple[SourceRow, Question]], tokenizer: PreTrainedTokenizerBase) -> list[Rendered]:
        """The questions as prompts, in order; rows with the same settings are rendered together."""
        alike: dict[str | None, list[int]] = {}
        for index, (row, _) in enumerate(asked):
            origin = row.values.get("source")
            alike.setdefault(origin if isinstance(origin, str) and origin in self.config.prompts else None, []).append(
                index
            )
        found: dict[int, Rendered] = {}
        for origin, indices in alike.items():
            prompt = self.prompt if origin is None else self.config.prompts[origin]
            found |= zip(indices, render_all([asked[i][1] for i in indices], tokenizer, prompt), strict=True)
        return [found[index] for index in range(len(asked))]

    def questions(self, rows: SourceRows) -> list[str]:
        """The normalised questions of the rows that have one."""
        self.require_columns(rows)
        found = []
        for row in rows.rows:
            with contextlib.suppress(BadRow):  # the stage that evaluates on it reports the row, if that is an error
                found.append(normalized(self._split(self.question(row.values))[0]))
        return found

    def exchange(self, values: Mapping[str, Any]) -> tuple[Question, str]:
        """The question and the response of a row that has both. Raises BadRow."""
        question, said = self._split(self.question(values))
        response = response_text({**said, **values}.get(self.response or ""))
        if response is None:
            raise BadRow(f"column {self.response!r} does not hold text")
        return question, response

    def _split(self, question: Question) -> tuple[Question, dict[str, str]]:
        """The question without the assistant's last message, and that message as the response column."""
        if self.response is None or isinstance(question, str) or question[-1]["role"] != "assistant":
            return question, {}
        if len(question) == 1:
            raise BadRow(f"column {self.config.question!r} holds only the assistant's message")
        return question[:-1], {self.response: question[-1]["content"]}

    def _at(self, row: SourceRow) -> str:
        return f"data source {self.name} ({self.config.path}) {row.place}"

    def require_columns(self, rows: SourceRows) -> None:
        """A column that no row has is a mistake in the configuration, not in the rows."""
        self.there = list(dict.fromkeys(column for row in rows.rows for column in row.values))
        missing = missing_columns(self.config, self.there)
        if missing:
            raise DataError(f"data source {self.name} ({self.config.path}) {missing}")

    def question(self, values: Mapping[str, Any]) -> Question:
        """The question of a row. Raises BadRow, also for text in any of its columns that is not valid Unicode."""
        for column, value in values.items():
            if not _is_unicode([column, value]):
                raise BadRow(f"column {column!r} contains a lone surrogate (half a character, as in a truncated emoji)")
        if self.config.question_from:
            return self._written(self.config.question_from, values)
        question = self._present(values, self.config.question)
        if isinstance(question, str) and question.strip():
            return question
        if isinstance(question, list) and question and all(map(_is_message, question)):
            return question
        raise BadRow(f"column {self.config.question!r} holds neither text nor a list of messages")

    def _written(self, text: str, values: Mapping[str, Any]) -> str:
        def filled(place: re.Match[str]) -> str:
            column = place[1] or place[2]
            if column not in self.there:
                return f"{{{column}}}"
            value = str(self._present(values, column))
            return f"{{{value}}}" if place[1] else value

        written = PLACE.sub(filled, text)
        if not written.strip():
            raise BadRow("question_from produces only whitespace")
        return written

    def _gold(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The ``answer`` column, where the source has a gold answer."""
        if self.config.answer is None:
            return {}
        value = self._present(values, self.config.answer)
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise BadRow(f"the gold answer in column {self.config.answer!r} is {value}")
            value = _digits(value)
        if self.pattern is not None:
            match = self.pattern.search(value) if isinstance(value, str) else None
            if match is None or match[1] is None:
                raise BadRow(f"answer_pattern {self.pattern.pattern!r} has no match in column {self.config.answer!r}")
            value = match[1]
        if isinstance(value, str):
            value = value.strip()
        if _is_empty(value) or (isinstance(value, list) and all(map(_is_empty, value))):
            raise BadRow(f"the gold answer in column {self.config.answer!r} is empty")
        return {"answer": value}

    def _present(self, values: Mapping[str, Any], column: str) -> Any:
        if _is_missing(values.get(column)):
            raise BadRow(f"column {column!r} is missing")
        return values[column]

    def _fits(self, prompt: Rendered, row: SourceRow, skipped: Counter[str]) -> bool:
        length, limit = len(prompt.prompt_ids), self.prompt.max_tokens
        if length <= limit:
            return True
        if self.prompt.too_long == "error":
            raise DataError(
                f"{self._at(row)}: its prompt is {length} tokens, longer than prompt.max_tokens {limit}; "
                "raise it, or set prompt.too_long: skip"
            )
        skipped["too_long"] += 1
        return False

    def _id(self, row: SourceRow, seen: Counter[str]) -> str:
        """The source's name and a hash of the row, numbered for repeated rows."""
        content = json.dumps(row.values, sort_keys=True, default=str).encode(errors="surrogatepass")
        identity = f"{self.name}-{hashlib.blake2b(content, digest_size=8).hexdigest()}"
        seen[identity] += 1
        return identity if seen[identity] == 1 else f"{identity}-{seen[identity]}"


def _digits(number: float | Decimal) -> str:
    """A number as people write it: integers without a point, others as decimals, never with an exponent."""
    if isinstance(number, int):
        return str(int(number))
    exact = number if isinstance(number, Decimal) else Decimal(repr(float(number)))
    return str(int(exact)) if exact == exact.to_integral_value() else format(exact, "f")


def _is_unicode(value: Any) -> bool:
    """Whether all text in it can be encoded as UTF-8; JSON escapes allow lone surrogates, which cannot."""
    match value:
        case str():
            return value.isascii() or _SURROGATE.search(value) is None
        case list() | tuple():
            return all(map(_is_unicode, value))
        case dict():
            return all(map(_is_unicode, (*value, *value.values())))
    return True


def _is_missing(value: Any) -> bool:
    """None, or NaN, which replaces it in tables."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_empty(value: Any) -> bool:
    return _is_missing(value) or (isinstance(value, str) and not value.strip()) or value == [] or value == {}


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def question_text(question: Question) -> str:
    """A question as text: for a conversation its messages, without the system message, which many questions share."""
    if isinstance(question, str):
        return question
    return "\n".join(message["content"] for message in question if message["role"] != "system")


def response_text(value: Any) -> str | None:
    """The text of a response, given as text or as a conversation that ends with it; None if there is none."""
    if isinstance(value, list) and value and all(map(_is_message, value)) and value[-1]["role"] == "assistant":
        value = value[-1]["content"]
    return value if isinstance(value, str) and value.strip() else None


def normalized(asked: Question) -> str:
    """A question's text as it is compared: normalised to NFC, case-folded, whitespace collapsed."""
    return duplicate_key(question_text(asked))


def filter_by_pass_rate(
    problems: Sequence[Problem], pass_rates: Mapping[str, float | None], config: DifficultyConfig
) -> list[Problem]:
    """The problems whose pass rate (by id, share of correct samples in 0..1) lies within the bounds, inclusive.

    A problem whose pass rate is None, because none of its samples could be judged, is kept.

    Raises DataError for a problem missing from ``pass_rates``, and if no problem is left.
    """
    unmeasured = [problem.id for problem in problems if problem.id not in pass_rates]
    if unmeasured:
        raise DataError(
            f"{len(unmeasured)} problems have no pass rate, for example {unmeasured[0]}; measure them first"
        )
    low, high = config.min_pass_rate, config.max_pass_rate
    kept = [problem for problem in problems if (rate := pass_rates[problem.id]) is None or low <= rate <= high]
    if problems and not kept:
        raise DataError(
            f"none of {len(problems)} problems has a pass rate between {low} and {high}; widen data.difficulty"
        )
    return kept
