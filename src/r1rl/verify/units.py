r"""Units and currencies around a number.

A unit on only one side is ignored, because the question usually determines it. Units on both sides must be equal or
convert exactly (``5 km`` equals ``5000 m``, not ``5 m``); words that are not a known unit must share a word
(``18 eggs`` and ``18 duck eggs``).
"""

from __future__ import annotations

import re
from fractions import Fraction

_WORD = r"[^\W\d_]+"
_MARKUP = r"\\(?:text|mathrm|textrm|mbox|operatorname|rm|textit|mathit|textbf|mathbf)\s*"
_POWER = r"(?:\s*\^\s*\{?\s*([234])\s*\}?)?"
_MARKED = re.compile(rf"(?:\\[,;: ]|~|\s)*{_MARKUP}\{{\s*([^{{}}]*?)\s*\}}{_POWER}\s*$")
_WORDS = re.compile(rf"(?<=[\d}})%])\s+((?:{_WORD}\.?(?:\s*/\s*|\s+|-)?){{1,6}}){_POWER}\s*$")
_GLUED = re.compile(
    r"(?<=\d)\s*((?:mm|cm|dm|km|m(?=\s*\^\s*\{?\s*[23])|kg|mg|ml|ft|lbs?|oz|mph|km/h|m/s|hrs?|mins?|secs?))"
    rf"{_POWER}\s*$"
)
_DEGREE = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?\s*([CF](?![a-z]))?\s*$")
_PERCENT = re.compile(r"\s*(?:\\?%|percent|pct|percentage)\s*$")
_CURRENCY = re.compile(r"^([+-]?)\s*(\\\$|\$|€|£|¥|₹|\\euro|\\pounds)\s*")

_CURRENCY_LAST = re.compile(r"(?<=[0-9])\s*(\\\$|\$|€|£|¥|₹|\\euro|\\pounds)\s*$")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that change the value: the number before one is not a plain number with a unit.
_NOT_UNITS = _set(
    """and or not than times plus minus over divided by squared cubed factorial half halves third thirds quarter
    quarters fourth fifth sixth seventh eighth ninth tenth hundredth thousandth hundred thousand million billion
    trillion dozen pi sqrt infinity mod base to power ln log sin cos tan exp if where for all when is
    with sum product less more fewer"""
)
_SINGLE_LETTERS = _set("m g s h L l")

_ALIASES = {
    "$": "$ dollar usd buck", "€": "€ euro eur \\euro", "£": "£ gbp quid \\pounds", "¥": "¥ yen yuan rmb jpy",
    "₹": "₹ rupee inr rs", "cent": "cent ¢", "degree": "degree deg", "radian": "radian rad",
    "mm": "mm millimeter millimetre", "cm": "cm centimeter centimetre", "dm": "dm decimeter decimetre",
    "m": "m meter metre mtr", "km": "km kilometer kilometre", "in": "inch inche", "ft": "ft foot feet", "yd": "yd yard",
    "mi": "mi mile", "mg": "mg milligram", "g": "g gram gm", "kg": "kg kilogram kilo", "lb": "lb pound",
    "oz": "oz ounce",
    "s": "s sec second", "min": "min minute", "h": "h hr hour", "day": "day", "week": "week wk", "month": "month",
    "year": "year yr", "ml": "ml milliliter millilitre", "l": "l liter litre", "mph": "mph",
    "km/h": "km/h kph kmh kmph",
    "m/s": "m/s",
}  # fmt: skip
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}

KNOWN_UNITS = frozenset(
    word for word in (*_CANONICAL, "L") if word.isalpha() and word not in ("in", "l", "quid", "buck", "kilo", "rs")
) | {"km/h", "m/s"}
"""Words that are units wherever they follow a number."""

_FACTORS: dict[str, tuple[str, Fraction]] = {
    **{name: ("length", Fraction(n)) for name, n in {"mm": 1, "cm": 10, "dm": 100, "m": 1000, "km": 10**6}.items()},
    **{name: ("imperial", Fraction(n)) for name, n in {"in": 1, "ft": 12, "yd": 36, "mi": 63360}.items()},
    **{name: ("mass", Fraction(n)) for name, n in {"mg": 1, "g": 1000, "kg": 10**6}.items()},
    **{name: ("weight", Fraction(n)) for name, n in {"oz": 1, "lb": 16}.items()},
    **{name: ("time", Fraction(n)) for name, n in {"s": 1, "min": 60, "h": 3600, "day": 86400, "week": 604800}.items()},
    **{name: ("volume", Fraction(n)) for name, n in {"ml": 1, "l": 1000}.items()},
    **{name: ("dollars", Fraction(n)) for name, n in {"cent": 1, "$": 100}.items()},
}


def split_unit(text: str) -> tuple[str, str]:
    """(the quantity, the canonical name of its unit); ``%`` is a unit here, "" means no unit."""
    currency = _CURRENCY.match(text)
    if currency:
        text = currency.group(1) + text[currency.end() :]
        rest, unit = _split_trailing(text)
        return rest, unit if unit == "%" else _canonical(currency.group(2).removeprefix("\\"))
    return _split_trailing(text)


def _split_trailing(text: str) -> tuple[str, str]:
    percent = _PERCENT.search(text)
    if percent and percent.start() > 0:
        return text[: percent.start()], "%"
    degree = _DEGREE.search(text)
    if degree and degree.start() > 0:
        return text[: degree.start()], "degree" + (degree.group(1) or "").lower()
    currency = _CURRENCY_LAST.search(text)
    if currency and currency.start() > 0:
        return text[: currency.start()], _canonical(currency.group(1).removeprefix("\\"))
    for pattern in (_MARKED, _WORDS, _GLUED):
        match = pattern.search(text)
        if match and match.start() > 0:
            unit = _name(match.group(1), match.group(2))
            if unit:
                return text[: match.start()].rstrip(), unit
    return text, ""


def _name(words: str, power: str | None) -> str:
    """Canonical name of a unit phrase, or "" if it is not one."""
    words = words.strip().removesuffix(".").replace("\\%", "%").strip()
    if words.lower() in ("%", "percent", "percentage", "pct"):
        return "%"
    parts = [part for part in re.split(r"[\s-]+", words) if part]
    if not parts or any(part.lower() in _NOT_UNITS for part in parts):
        return ""
    if len(words) == 1 and words not in _SINGLE_LETTERS and words not in "$€£¥₹":
        return ""
    for prefix, implied in (("square", "2"), ("sq", "2"), ("cubic", "3"), ("cu", "3")):
        if parts[0].lower() in (prefix, prefix + ".") and len(parts) > 1:
            parts, power = parts[1:], implied
    name = " ".join(_canonical(part) for part in parts)
    return f"{name}^{power}" if power else name


def _canonical(word: str) -> str:
    word = word.lower().strip(".")
    singular = word.removesuffix("s") if len(word) > 2 else word
    return _CANONICAL.get(word) or _CANONICAL.get(singular) or singular


def factor(unit: str, other: str) -> Fraction | None:
    """The factor that converts a quantity in ``unit`` to ``other``; None if the units are not comparable."""
    if not unit or not other or unit == other:
        return Fraction(1)
    (base, power), (other_base, other_power) = _base(unit), _base(other)
    if power == other_power and base in _FACTORS and other_base in _FACTORS:
        (kind, size), (other_kind, other_size) = _FACTORS[base], _FACTORS[other_base]
        return (size / other_size) ** power if kind == other_kind else None
    known = _CANONICAL.values()
    if power == other_power and not {base, other_base} & set(known) and set(base.split()) & set(other_base.split()):
        return Fraction(1)
    return None


def _base(unit: str) -> tuple[str, int]:
    base, _, power = unit.partition("^")
    return base, int(power or 1)
