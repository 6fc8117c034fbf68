"""Language consistency (DeepSeek-R1, arXiv 2501.12948, section 2.3.2): share of the thought in the target language.

The share counts words of the chain of thought in the target language over all its words. Code, LaTeX, tags, links and
single letters do not count as words. The script of a word decides its language; for the Latin script, which many
languages share, an offline detector (py3langid) classifies one sentence at a time, short sentences together with their
neighbours. Scripts without spaces (Han, kana, Thai, …) count one word per character.
"""

from __future__ import annotations

import difflib
import re
import threading
import unicodedata
from functools import lru_cache
from typing import Any

from r1rl_rewards.texts import texts_of, thought_of

SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("zh", "yue", "wuu"), ("HAN",)), "ja": ("HAN", "KANA"), "ko": ("HANGUL",),
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "mn", "tg", "tt", "ba"), ("CYRILLIC",)),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ug", "arz", "ary"), ("ARABIC",)), "he": ("HEBREW",), "el": ("GREEK",),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("DEVANAGARI",)), **dict.fromkeys(("bn", "as"), ("BENGALI",)),
    "th": ("THAI",), "lo": ("LAO",), "km": ("KHMER",), "my": ("MYANMAR",), "ta": ("TAMIL",), "te": ("TELUGU",),
    "kn": ("KANNADA",), "ml": ("MALAYALAM",), "gu": ("GUJARATI",), "pa": ("GURMUKHI",), "or": ("ORIYA",),
    "si": ("SINHALA",), "hy": ("ARMENIAN",), "ka": ("GEORGIAN",), "am": ("ETHIOPIC",),
}  # fmt: skip
"""Scripts of the languages that are not written in Latin letters."""

LATIN = tuple(
    """en de fr es pt it nl sv da no nn fi et lv lt pl cs sk sl hr bs ro hu sq tr az uz vi id ms tl sw zu xh so ha yo ig
    af ca gl eu cy ga is mt eo la jv mg""".split()  # noqa: SIM905 (a table of codes reads better as one text)
)
"""Languages written in Latin letters that the detector distinguishes."""

_ONE_LANGUAGE = ({"no", "nn", "nb"}, {"hr", "bs"}, {"id", "ms"})
_NAMES = {"CJK": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA", "FULLWIDTH": "LATIN"}
_UNSPACED = frozenset(("HAN", "KANA", "THAI", "LAO", "KHMER", "MYANMAR"))
_NEUTRAL = frozenset(
    """sin cos tan cot sec csc log ln exp max min mod gcd lcm sqrt pi cm mm km kg mg ml ft lb oz hr min sec www http
    https""".split()  # noqa: SIM905
)
_MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u0670\u0900-\u0dff\u0e31-\u0e4e\u0eb1-\u0ecd\u1000-\u109f\u17b4-\u17d3"
_WORD = re.compile(rf"[^\W\d_](?:[^\W\d_]|[{_MARKS}]|['’](?=[^\W\d_]))*")
_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]{0,500}`|\$\$[^$]{0,5000}\$\$|\$[^$\n]{0,1000}\$"
    r"|\\\[(?:[^\\]|\\[^\[\]]){0,5000}?\\\]|\\\((?:[^\\]|\\[^()]){0,1000}?\\\)"
    r"|\\begin\{(\w{1,20}\*?)\}(?:[^\\]|\\(?!begin)){0,5000}?\\end\{\1\}|\\[a-zA-Z]+(?:\s*\{[^{}]{0,200}\}){0,4}"
    r"|</?[a-z]{1,20}>|https?://\S+|\b\w*[0-9_]\w*\b",
    re.DOTALL,
)
_SENTENCE = re.compile(r"[.!?。！？…\n]+")
_LETTERS_TO_DECIDE = 40
_CONFIDENT = 0.6
_HAN_WITHOUT_KANA = 8


def language(
    completions: list[Any], prefill: list[str] | None = None, *, target: str = "en", **kwargs: Any
) -> list[float]:
    """Words of the chain of thought in the target language over all its words, 0 to 1; 0 without words.

    ``target`` is an ISO 639 code, for example en, zh, de. Without ``<think>`` tags the whole completion is judged.
    """
    _check(target)
    return [consistency(thought_of(text), target) for text in texts_of(completions, prefill)]


def consistency(text: str, target: str) -> float:
    """The share itself, for any text; 0 without words."""
    return share(text, target) or 0.0


def share(text: str, target: str) -> float | None:
    """The share itself, for any text; None without words."""
    _check(target)
    sentences = [_words(sentence) for sentence in _SENTENCE.split(_NOT_PROSE.sub(" ", text))]
    total = sum(len(words) for sentence in sentences for words in sentence.values())
    if total == 0:
        return None
    if target in SCRIPTS:
        ours = sum(_in_scripts(sentence, target) for sentence in sentences)
    else:
        ours = _in_latin([sentence["LATIN"] for sentence in sentences if sentence.get("LATIN")], target)
    return ours / total


def _check(target: str) -> None:
    known = (*SCRIPTS, *LATIN)
    if target not in known:
        near = difflib.get_close_matches(target.lower()[:2], known, n=1, cutoff=0.1)
        raise ValueError(
            f"language has no target {target!r}; did you mean {near[0] if near else 'en'!r}? Known: {known}"
        )


def _words(sentence: str) -> dict[str, list[str]]:
    """The words of a sentence by script."""
    found: dict[str, list[str]] = {}
    for word in _WORD.findall(sentence):
        for script, piece in _by_script(word):
            if script in _UNSPACED:
                found.setdefault(script, []).extend(piece)
            elif len(piece) > 1 and piece.lower() not in _NEUTRAL:
                found.setdefault(script, []).append(piece)
    return found


def _by_script(word: str) -> list[tuple[str, str]]:
    """A run of letters split where its script changes, as between kanji and kana or where languages touch."""
    starts: list[tuple[str, int]] = []
    for index, character in enumerate(word):
        script = _script(character)
        if script and not (starts and starts[-1][0] == script):
            starts.append((script, index))
    ends = [*(index for _, index in starts[1:]), len(word)]
    return [(script, word[start:end]) for (script, start), end in zip(starts, ends, strict=True)]


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """Unicode's name for a letter's script, "" for a mark or an apostrophe that belongs to any."""
    if unicodedata.category(character)[0] != "L":
        return ""
    first = unicodedata.name(character, "OTHER").split()[0]
    return _NAMES.get(first, first)


def _in_scripts(sentence: dict[str, list[str]], target: str) -> int:
    han, kana = sentence.get("HAN", []), sentence.get("KANA", [])
    if kana and target != "ja":  # a sentence with kana is Japanese, its kanji too
        return 0
    if target == "ja" and not kana and len(han) > _HAN_WITHOUT_KANA:  # and one of any length without kana is Chinese
        return 0
    return sum(len(sentence.get(script, ())) for script in SCRIPTS[target])


def _in_latin(sentences: list[list[str]], target: str) -> int:
    """The number of words of Latin-script sentences in the target language."""
    everything = [word for words in sentences for word in words]
    if sum(map(len, everything)) < _LETTERS_TO_DECIDE // 2:
        return len(everything)  # too little text to rule the language out
    main, _ = _detect(everything)
    count = 0
    for chunk in _chunks(sentences):
        found, confidence = _detect(chunk)
        if _same(found if confidence >= _CONFIDENT else main, target):
            count += len(chunk)
    return count


def _chunks(sentences: list[list[str]]) -> list[list[str]]:
    """Sentences, short ones joined with the following ones until there is enough text to detect a language."""
    chunks: list[list[str]] = [[]]
    for words in sentences:
        if sum(map(len, chunks[-1])) >= _LETTERS_TO_DECIDE:
            chunks.append([])
        chunks[-1].extend(words)
    return chunks


def _same(language: str, target: str) -> bool:
    return language == target or any({language, target} <= group for group in _ONE_LANGUAGE)


def _detect(words: list[str]) -> tuple[str, float]:
    language, confidence = _detector().classify(" ".join(words))
    return str(language), float(confidence)


_detector_lock = threading.Lock()


def _detector() -> Any:
    with _detector_lock:  # loading the model takes half a second; do it once
        return _load_detector()


@lru_cache(maxsize=1)
def _load_detector() -> Any:
    from py3langid import langid

    detector = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    detector.set_languages(LATIN)
    return detector
