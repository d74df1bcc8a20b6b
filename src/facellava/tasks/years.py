"""Reads an age in years out of free text: digits, words, ranges and decades ("in her mid-forties" -> 45).

A text that begins with a number means that number (appendix F.2: answers start with the age). Otherwise the
first expression that is marked as an age wins ("45-year-old", "aged 45", "in their forties", "between 40 and
45"), then the first other number that is not a tolerance, a percentage, a comparison, a code, a count of things
("2 people"), a length of time ("10 years ago"), a score, or a denied age ("not 50 but 45"). A range gives its
midpoint, also behind a mark ("aged 25-35" -> 30). Months count as whole years ("18 months" -> 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SMALL = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)
_TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_UNITS = (*_SMALL, *_TEENS)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: value for value, word in enumerate(_UNITS)} | {word: 20 + 10 * i for i, word in enumerate(_TENS)}
_DECADES = {
    "teens": 10,
    "twenties": 20,
    "thirties": 30,
    "forties": 40,
    "fifties": 50,
    "sixties": 60,
    "seventies": 70,
    "eighties": 80,
    "nineties": 90,
} | {f"{tens}-something": 20 + 10 * i for i, tens in enumerate(_TENS)}
_PART = {"early": 2.0, "mid": 5.0, "middle": 5.0, "late": 8.0, "": 5.0}

_WORD = (
    rf"(?:one hundred(?: and)?(?: (?:{'|'.join(_UNITS)}))?"
    rf"|(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_UNITS[1:10])}))?|{'|'.join(_UNITS)})"
)
_N = rf"(?:\d{{1,3}}(?:\.\d+)?|{_WORD})"
_TOLERANCE = re.compile(
    r"(?:give or take|plus or minus|\+/?-|±|within|off by)\s+"
    rf"(?:about |around |roughly |some )?{_N}\b(?:\s*years?)?"
    r"|\b(?:au|fig\.?|figure|frame|no\.|number)\s*\d+|\b\d+(?:\.\d+)?\s*%|\b\d+(?:\.\d+)?\s*percent"
)
# Numbers that are no age: counts of things, lengths of time, scores, sizes, and ages that are denied.
_THINGS = (
    r"(?:people|persons?|individuals|subjects|men|women|faces?|child(?:ren)?|kids|boys|girls|adults|friends|lines?"
    r"|wrinkles?|creases|folds|spots?|teeth|tooth|moles?|images?|photos?|pictures?|frames?"
    r"|seconds?|minutes?|hours?|days?"
    r"|weeks?|times|features?|reasons?|clues?|cues?|points?|pixels?|px|fps|cm|kg|things?|parts?|eyes?|signs?)"
)
_NO_AGE = re.compile(
    rf"\b{_N}\s+(?:(?!year|yr|month|old)[a-z][\w-]*\s+)?{_THINGS}\b"
    rf"|\b{_N}\s*(?:years?|months?)\s+(?:ago|older|younger|later|earlier|apart)\b"
    rf"|\b(?:for|past|last|next)\s+(?:about |over |some )?{_N}\s+(?:years?|months?)\b(?!\s*old)"
    rf"|\b(?:confidence|probability|certainty|score)\b\W+(?:(?:is|of|level|score)\W+){{0,2}}{_N}\b"
    rf"|\bscale\s+(?:of|from)\s+{_N}\s*(?:to|-|–)\s*{_N}\b"
    rf"|\b{_N}\s*(?:/|out of)\s*(?:5|10|100)\b|\b\d+\s*[x×]\s*\d+\b"
    r"|\b(?:(?:not|\w+n't)(?: (?:be|look|seem|appear))?(?: to be)?|rather than|instead of|as opposed to|unlike)\s+"
    r"(?:(?:yet|quite|exactly|really|about|around|a|an|in|his|her|their|the|being|be|of)\s+){0,3}"
    rf"(?:(?:early|mid|late)[- ])?(?:{'|'.join(_DECADES)}|[1-9]0'?s|{_N})\b(?:[- ]*years?[- ]old)?"
)
_RANGE = re.compile(
    rf"\b(?:between\s+)?(?:the ages? of\s+)?(?P<a>{_N})\s*(?:years?(?: old)?)?"
    rf"\s*(?:to|and|-|–|—|or)\s*(?P<b>{_N})\b"
    r"(?P<mark>[- ]*(?:years?|yrs?|y/?o)\b)?"
)
_DECADE = re.compile(
    r"(?P<part>\b(?:early|mid|middle|late))?[- ]*\b"
    rf"(?:(?P<word>{'|'.join(_DECADES)})|(?P<digits>[1-9]0)(?:'?s|[- ]somethings?))\b"
)
_PLAIN_PAIR = re.compile(
    rf"(?<!early )(?<!mid )(?<!late )(?<!early-)(?<!mid-)(?<!late-)\b(?P<w1>{'|'.join(_DECADES)}|[1-9]0'?s)"
    rf"(?: to | or |-|–)(?P<w2>{'|'.join(_DECADES)}|[1-9]0'?s)\b"
)
_DECADE_PAIR = re.compile(
    rf"\b(?P<p1>early|mid|middle|late)[- ](?:(?P<w1>{'|'.join(_DECADES)}|[1-9]0'?s)[- ])?(?:to|or)[- ]"
    rf"(?P<p2>early|mid|middle|late)?[- ]?(?P<w2>{'|'.join(_DECADES)}|[1-9]0'?s)\b"
)
_MARKED = re.compile(
    rf"\b(?P<after>{_N})[- ]*(?:years?[- ]*old|years?[- ]of[- ]age|yrs?[- ]*old|y/?o\b|-?ish\b)"
    r"|\b(?:aged?|ages)\b\W*"
    r"(?:(?:of|is|about|around|approximately|roughly|estimate\w*|near|looks|as|at|to|be|=)\W+){0,4}"
    rf"(?P<before>{_N})\b"
)
_MONTHS = re.compile(
    rf"\b(?:(?P<years>{_N})\s*(?:years?|yrs?)(?:\s*,)?\s*(?:and\s+)?)?(?:between\s+)?(?:(?P<low>{_N})\s*(?:to|and|-|–|—|or)\s*)?"
    rf"(?P<n>{_N})[- ]*months?\b(?P<old>[- ]*(?:old|of[- ]age)\b)?"
)
_BARE = re.compile(rf"\b(?P<n>{_N})\b(?!\s*(?:%|percent))")
_COMPARED = re.compile(
    r"(?:older|younger|over|under|above|below|more|less|least|most|beyond)\s+(?:than\s+)?(?:the age of\s+)?$"
)
_START = re.compile(rf"^\W*(?:(?:about|around|roughly|approximately|probably|maybe|age|aged)\W+)*(?={_N}\b)")


class Years(NamedTuple):
    """An age in years and the words it was read from."""

    value: float
    evidence: str


def read_years(text: str, low: float = 0, high: float = 116) -> Years | None:
    """The age that `text` states, within [low, high]; None without one."""
    lower = re.sub(r"\s*\n\s*", " ; ", text.lower().replace("’", "'").strip())
    lower = re.sub(r"\s+", " ", lower)
    for aside in (_TOLERANCE, _NO_AGE):
        lower = aside.sub(" ; ", lower)
    months = _months(lower)
    lower = _MONTHS.sub(lambda match: ";" * len(match.group(0)), lower)
    found = months + _ranges(lower) + _decades(lower) + _marked(lower) + _bare(lower)
    valid = [(rank, at, Years(value, words)) for rank, at, value, words in found if low <= value <= high]
    if not valid:
        return None
    start = _START.match(lower)
    if start:
        first = [item for item in valid if item[1] <= start.end()]
        if first:
            return min(first, key=lambda item: (item[0] == 9, -len(item[2].evidence)))[2]
    return min(valid, key=lambda item: item[:2])[2]


_Found = list[tuple[int, int, float, str]]  # rank (0 is best), place, value, words


def _number(words: str) -> float:
    if words[0].isdigit():
        return float(words)
    total = 0.0
    for word in re.split(r"[- ]", words):
        total += {"hundred": 99.0, "and": 0.0}.get(word, float(_WORDS.get(word, 0)))
    return total


def _months(text: str) -> _Found:
    found: _Found = []
    for match in _MONTHS.finditer(text):
        years = _number(match["years"]) if match["years"] else 0.0
        n = _number(match["n"])
        middle = (_number(match["low"]) + n) / 2 if match["low"] else n
        value = float(int(years + middle / 12))
        found.append((0 if match["old"] or match["years"] else 3, match.start(), value, match.group(0)))
    return found


def _spans(text: str) -> Iterator[tuple[re.Match[str], float]]:
    """Ranges of at most forty years and their middle."""
    for match in _RANGE.finditer(text):
        a, b = _number(match["a"]), _number(match["b"])
        if a < b <= a + 40:
            yield match, (a + b) / 2


def _ranges(text: str) -> _Found:
    found: _Found = []
    behind = {match.start("before") for match in _MARKED.finditer(text)}
    for match, middle in _spans(text):
        marked = match["mark"] or match.group(0).startswith("between") or match.start("a") in behind
        found.append((0 if marked else 2, match.start(), middle, match.group(0)))
    return found


def _decades(text: str) -> _Found:
    found: _Found = []
    for match in _DECADE_PAIR.finditer(text):
        second = _decade(match["p2"], match["w2"])
        first = _decade(match["p1"], match["w1"] or match["w2"])
        found.append((0, match.start(), (first + second) / 2, match.group(0)))
    for match in _PLAIN_PAIR.finditer(text):
        middle = (_decade(None, match["w1"]) + _decade(None, match["w2"])) / 2
        found.append((0, match.start(), middle, match.group(0)))
    taken = [(at, at + len(words)) for _, at, _, words in found]
    for match in _DECADE.finditer(text):
        if not any(start <= match.start() < end for start, end in taken):
            words = match["word"] or match["digits"] + "s"
            found.append((0, match.start(), _decade(match["part"], words), match.group(0).strip(" -")))
    return found


def _decade(part: str | None, words: str) -> float:
    base = _DECADES.get(words) or int(words[:2])
    if base == 10:  # the teens run from 13 to 19
        return {"early": 14.0, "late": 18.0}.get(part or "", 16.0)
    return base + _PART[part or ""]


def _marked(text: str) -> _Found:
    found: _Found = []
    lower_ends = {match.start("a") for match, _ in _spans(text)}
    for match in _MARKED.finditer(text):
        if match.start("before") in lower_ends:
            continue
        words = match["after"] or match["before"]
        compared = _compared(text, match.start())
        found.append((8 if compared else 0, match.start(), _number(words), match.group(0)))
    return found


def _compared(text: str, at: int) -> bool:
    """Whether the number at `at` is one of a comparison ("older than 18")."""
    return bool(_COMPARED.search(text, max(0, at - 60), at))


def _bare(text: str) -> _Found:
    found: _Found = []
    for match in _BARE.finditer(text):
        words = match["n"]
        # "one of the clues", "two lines": small number words count only when nothing else is said.
        if words in _SMALL and len(text.split()) > 3:
            continue
        compared = _compared(text, match.start())
        found.append((9 if compared else 3, match.start(), _number(words), words))
    return found
