"""Applies the filters of rejection sampling in order; records what is kept, what is dropped, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from r1rl.config.data import PromptConfig
from r1rl.config.stages import SampleConfig
from r1rl.data.filters import Contamination, Share, duplicate_key, failed_rule
from r1rl.data.problems import BadRow, Source, normalized, question_text
from r1rl.data.sources import read_rows
from r1rl.errors import DataError
from r1rl.records import Row


@dataclass(slots=True)
class Sieve:
    """Rows (of :func:`r1rl.records.sampled_rows`) passing through the filters."""

    rows: list[Row]
    dropped: list[Row] = field(default_factory=list)
    """Dropped rows, each with the filter's name under ``dropped``."""
    table: list[tuple[str, int, int]] = field(default_factory=list)
    """For each filter, the numbers of rows it removed and left."""

    def keep(self, name: str, verdicts: Iterable[bool]) -> None:
        """Drop the rows whose verdict is False, with the reason ``name``."""
        self.reject(name if good is False else None for good in verdicts)
        if not self.table or self.table[-1][0] != name:
            self.table.append((name, 0, len(self.rows)))

    def reject(self, reasons: Iterable[str | None]) -> None:
        """Drop the rows that have a reason; adds one line per reason to the table."""
        judged = list(zip(self.rows, reasons, strict=True))
        self.rows = [row for row, reason in judged if reason is None]
        lost = [row | {"dropped": reason} for row, reason in judged if reason is not None]
        self.dropped += lost
        left = len(judged)
        for reason, count in Counter(row["dropped"] for row in lost).items():
            left -= count
            self.table.append((reason, count, left))

    def verify(self, bounds: Mapping[str, float]) -> None:
        """Drop samples whose rewards are too low or missing."""
        self.reject(_failed_reward(row, bounds) for row in self.rows)

    def apply_rules(self, settings: SampleConfig, share: Share) -> None:
        """Drop samples whose text breaks a rule."""
        rules = settings.filters
        self.reject(failed_rule(row["response"], row["finish"], row["tokens"], rules, share) for row in self.rows)

    def deduplicate(self) -> None:
        """Drop repeated responses to the same question."""
        seen: set[tuple[str, str]] = set()
        verdicts = []
        for row in self.rows:
            key = (normalized(row["question"]), duplicate_key(row["response"]))
            verdicts.append(key not in seen)
            seen.add(key)
        self.keep("double", verdicts)

    def decontaminate(self, evaluated: Iterable[str], n: int) -> None:
        """Drop rows whose question or response shares an n-gram with an evaluation problem."""
        contamination = Contamination(evaluated, n)
        texts = ((question_text(row["question"]), row["response"]) for row in self.rows)
        self.keep("contaminated", [not any(map(contamination.found_in, pair)) for pair in texts])

    def balance(self, per_problem: int | None, limits: Mapping[str, int]) -> None:
        """Limit the rows per problem, keeping the shortest, and per source, keeping one of every problem before a
        second of any."""
        ranks = _length_ranks(self.rows)
        if per_problem is not None:
            self.keep("per_problem", [ranks[id(row)] < per_problem for row in self.rows])
        for source, limit in limits.items():
            mine = sorted((id(row) for row in self.rows if row["source"] == source), key=ranks.__getitem__)
            over = set(mine[limit:])
            self.keep(f"limit_{source}", [id(row) not in over for row in self.rows])


def mixed_rows(settings: SampleConfig) -> list[Row]:
    """The rows of ``sample.mix`` in the format of samples; they were not sampled, so they have no rewards.

    Raises: DataError for a row without question or response (unless its source says ``on_bad_row: skip``).
    """
    rows: list[Row] = []
    for name, source in settings.mix.items():
        read = read_rows(source)
        reader = Source(name, source.model_copy(update={"answer": None}), PromptConfig(), settings.response)
        reader.require_columns(read)
        for number, row in enumerate(read.rows, start=1):
            try:
                question, response = reader.exchange(row.values)
            except BadRow as error:
                if source.on_bad_row == "error":
                    raise DataError(
                        f"sample.mix.{name} ({source.path}) row {number} ({row.place}): {error}; fix it, or set "
                        "on_bad_row: skip"
                    ) from error
                continue
            rows.append(
                {
                    "id": f"{name}-{number}",
                    "problem": f"{name}-{number}",
                    "source": name,
                    "question": question,
                    "response": response,
                    "rewards": {},
                }
            )
    return rows


def _failed_reward(row: Row, bounds: Mapping[str, float]) -> str | None:
    """The reason to drop a sample: the first reward at or below its bound, or ``unverified`` if none applies; None to
    keep it."""
    values = {name: row["rewards"].get(name) for name in bounds}
    if all(value is None for value in values.values()):
        return "unverified" if bounds else None
    failed = [name for name, value in values.items() if value is not None and value <= bounds[name]]
    return failed[0] if failed else None


def _length_ranks(rows: list[Row]) -> dict[int, int]:
    """For each row, by ``id()``: how many shorter rows its problem has."""
    by_problem: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_problem[row["problem"]].append(row)
    return {
        id(row): rank for mine in by_problem.values() for rank, row in enumerate(sorted(mine, key=_response_length))
    }


def _response_length(row: Row) -> int:
    return len(row["response"])
