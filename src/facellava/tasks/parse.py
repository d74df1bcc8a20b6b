"""Reads a typed prediction out of an answer in free text (appendix F.1, F.2).

Rules, in order:

* what a model thinks aloud first (``<think>...</think>``) is no answer, and dropped;
* marks of emphasis (``**``, backticks, ``_word_``) are dropped, then denied statements (``negation.py``);
* **single** (expression, deepfake): the very first word when it is a label; else the labels' names and
  synonyms in the first sentence that affirms anything (a heading or "Sure!" is no such sentence); else, when
  that sentence has none or is tied, a line that names the answer ("Answer: fake", and "In conclusion, ..." with
  two labels); else the majority over the whole text. A tie that remains gives None and the outcome "tie".
  With exactly two labels a denied one counts for the other when nothing is affirmed.
* **multi with codes** (action units): codes such as ``AU12`` or ``AUs 1+2``; the units' names only when the
  text has no code at all. **multi** (attributes): names and synonyms anywhere.
  An empty tuple means that the text says "none"; None means that it says nothing about the task.
* **number** (age): see ``years.py``.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import UsageError
from ..files import from_json
from .negation import Stripped, split_sentences, strip_negations
from .years import read_years

if TYPE_CHECKING:
    from .task import Task

__all__ = ["Outcome", "Parsed", "Reader", "count_outcomes", "parse_lines", "split_sentences", "strip_negations"]


Outcome = Literal["found", "none", "tie"]
"""Whether an answer could be read: a value was found, nothing matched, or labels were tied."""


class Parsed(NamedTuple):
    """What an answer says; every field but the task's own stays None.

    Attributes:
        label: canonical label of a single task.
        active: active action units in canonical order, () for "none".
        present: present attributes in canonical order, () for "none".
        years: age in years (a range gives its midpoint).
        evidence: the words that decided, empty when nothing was found.
        outcome: "found"; else why there is no value: "none" (no match) or "tie" (single tasks).
    """

    label: str | None = None
    active: tuple[str, ...] | None = None
    present: tuple[str, ...] | None = None
    years: float | None = None
    evidence: str = ""
    outcome: Outcome = "none"


def _spelling(words: str) -> str:
    """A regular expression for one spelling: whole words, spaces may be underscores or hyphens."""
    body = r"[\s_-]+".join(map(re.escape, re.split(r"[\s_-]+", words.lower())))
    return rf"(?<![\w-]){body}(?![\w])"


@dataclass(frozen=True)
class Reader:
    """The compiled expressions of one task."""

    task: Task
    words: Mapping[str, re.Pattern[str]]
    any_word: re.Pattern[str]
    owner: Mapping[str, str]
    protect: tuple[tuple[re.Pattern[str], str], ...]
    none: re.Pattern[str] | None

    @classmethod
    def of(cls, task: Task) -> Reader:
        """Compiles the names, texts, synonyms and patterns of `task`."""
        words, owner = {}, {}
        for label in task.labels:
            spellings = [label.name, *label.synonyms]
            if task.kind == "multi":
                spellings.append(re.sub(r"^an? ", "", label.text))
            ordered = sorted(set(spellings), key=len, reverse=True)
            words[label.name] = re.compile("|".join([*map(_spelling, ordered), *label.patterns]))
            owner |= {re.sub(r"[\s_-]+", " ", s.lower()): label.name for s in ordered}
        longest = sorted((s for label in task.labels for s in (label.name, *label.synonyms)), key=len, reverse=True)
        protect = tuple(
            (re.compile(rf"\b{re.escape(words)}\b(?P<more>\s*(?:,|or|nor)\s+)?", re.IGNORECASE), label)
            for words, label in sorted(task.protect.items(), key=lambda item: -len(item[0]))
        )
        none = re.compile("|".join(task.none_patterns)) if task.none_patterns else None
        return cls(task, words, re.compile("|".join(map(_spelling, longest)) or r"(?!)"), owner, protect, none)

    def read(self, text: str) -> Parsed:
        """Parses `text`; never fails, whatever the text."""
        text = _THOUGHTS.sub("", text)
        if self.task.kind == "number":
            return self._number(text)
        if self.task.kind == "single":
            return self._single(text)
        text = _plain(text)
        found, evidence = self._codes(text) if self.task.code else self._present(text)
        if found is None:
            return Parsed()
        return Parsed(evidence=evidence, outcome="found")._replace(**{self.task.field: found})

    # --- single ---

    def _votes(self, text: str) -> Counter[str]:
        hits = (re.sub(r"[\s_-]+", " ", m.group(0)) for m in self.any_word.finditer(text))
        return Counter(self.owner[hit] for hit in hits)

    def _single(self, text: str) -> Parsed:
        sentences = strip_negations(self._protected(_plain(text)))
        # A question affirms nothing ("Real? No, this is fake."), unless there is nothing else.
        sentences = [s for s in sentences if not s.original.endswith("?")] or sentences
        opening = next((s for s in sentences if self._says_something(s)), None)
        if opening and (winner := self._first_word(opening.affirmed) or _majority(self._votes(opening.affirmed))):
            return Parsed(label=winner, evidence=opening.original, outcome="found")
        for sentence in reversed(sentences):
            if self._concludes(sentence.affirmed) and (winner := _majority(self._votes(sentence.affirmed))):
                return Parsed(label=winner, evidence=sentence.original, outcome="found")
        total = sum((self._votes(s.affirmed) for s in sentences), Counter())
        winner = _majority(total) or (None if total else self._opposite(sentences))
        if winner is None:
            return Parsed(outcome="tie" if total else "none")
        return Parsed(label=winner, evidence=self._first_with(sentences, winner), outcome="found")

    def _says_something(self, sentence: Stripped) -> bool:
        """Whether anything is affirmed; polite openings, headings and "Let us see:" without a label are not."""
        if not re.search(r"\w", sentence.affirmed):
            return False
        empty = sentence.original.startswith("#") or _OPENER.match(sentence.affirmed)
        return bool(self._votes(sentence.affirmed)) or not (empty or sentence.original.endswith(":"))

    def _first_word(self, affirmed: str) -> str | None:
        """The label that the sentence opens with, unless it is one of several on offer ("real or fake")."""
        opening = re.match(r"[\W_]*([a-z]+)(?:\s*(?:\bor\b|\band\b|/|\bvs\b\.?|\bversus\b)\s*([a-z]+))?", affirmed)
        if not opening or opening[1] not in self.task.names or opening[2] in self.owner:
            return None
        return opening[1]

    def _concludes(self, affirmed: str) -> bool:
        pattern = _ANSWER_LINE if len(self.task.names) > 2 else _CONCLUSION
        return bool(pattern.match(affirmed))

    def _opposite(self, sentences: list[Stripped]) -> str | None:
        names = self.task.names
        denied = _majority(sum((self._votes(s.denied) for s in sentences), Counter()))
        return names[1 - names.index(denied)] if denied and len(names) == 2 else None

    def _first_with(self, sentences: list[Stripped], label: str) -> str:
        for sentence in sentences:
            if self._votes(sentence.affirmed)[label]:
                return sentence.original
        return sentences[0].original

    # --- multi ---

    def _codes(self, text: str) -> tuple[tuple[str, ...] | None, str]:
        sentences = strip_negations(text)
        if not _code_numbers(text.lower(), self.task.code):
            return self._present(text)
        found, evidence = set(), []
        for sentence in sentences:
            codes = {f"{self.task.code}{n}" for n in _code_numbers(sentence.affirmed, self.task.code)}
            if codes & set(self.task.names):
                found |= codes & set(self.task.names)
                evidence.append(sentence.original)
        return self.task.sort(found), " ".join(evidence) or text.strip()

    def _present(self, text: str) -> tuple[tuple[str, ...] | None, str]:
        found, evidence, mentioned = set(), [], bool(self.none and self.none.search(text.lower()))
        for sentence in strip_negations(self._protected(text)):
            here = {name for name, words in self.words.items() if words.search(sentence.affirmed)}
            mentioned = mentioned or any(words.search(sentence.denied) for words in self.words.values())
            if here:
                found |= here
                evidence.append(sentence.original)
        if found:
            return self.task.sort(found), " ".join(evidence)
        return ((), text.strip()) if mentioned else (None, "")

    def _protected(self, text: str) -> str:
        """Writes "no beard or glasses" as "no_beard, no glasses", so that only the rest is denied."""
        for pattern, label in self.protect:
            text = pattern.sub(lambda m, label=label: label + _rest_of_denial(m), text)
        return text

    # --- number ---

    def _number(self, text: str) -> Parsed:
        number = self.task.number
        assert number is not None
        found = read_years(text, number.minimum, number.maximum)
        if found is None:
            return Parsed()
        return Parsed(years=found.value, evidence=found.evidence, outcome="found")


_OPENER = re.compile(
    r"\W*(?:sure|certainly|of course|great|good|happy to|glad to|absolutely|okay|ok|yes|well|thanks?|hello|hi|let me"
    r"|let us|let's|based on|looking at|here is|here's|i'd be|i would be)\b"
)
_ANSWER = (
    r"(?:(?:the )?(?:final |correct |predicted |best )?"
    r"(?:answer|verdict|label|prediction|classification|class|conclusion|emotion|expression)\s*(?:is\b|[:=]))"
)
_ANSWER_LINE = re.compile(rf"\W*{_ANSWER}")
_CONCLUSION = re.compile(
    rf"\W*(?:{_ANSWER}|(?:in conclusion|in summary|overall|to conclude|therefore|thus|hence|altogether"
    r"|so,|in short|taken together|all in all)\b|(?:i|we) (?:conclude|believe|think)\b)"
)


_THOUGHTS = re.compile(r"\A.*</think>|<think>.*", re.DOTALL | re.IGNORECASE)
"""Up to the last mark of their end; where an answer was cut off in them, all the rest."""


def _plain(text: str) -> str:
    """`text` without marks of emphasis; "is_real" and "isFake" (keys of JSON) read "is real", "is Fake"."""
    text = re.sub(r"\*\*|(?<=\w)\*|\*(?=\w)|`+", "", text)
    text = re.sub(r"(?<!\w)_+(?=\w)|(?<=[^\W_])_+(?!\w)", "", text)
    return re.sub(r"\bis(?:_(?=[a-zA-Z])|(?=[A-Z]))", "is ", text)


def count_outcomes(parsed: Iterable[Parsed]) -> dict[Outcome, int]:
    """How many answers were read ("found"), matched nothing ("none") or were tied ("tie")."""
    counts: dict[Outcome, int] = {"found": 0, "none": 0, "tie": 0}
    for item in parsed:
        counts[item.outcome] += 1
    return counts


def _rest_of_denial(match: re.Match[str]) -> str:
    """What followed a protected phrase: after "no beard or ..." the rest stays denied."""
    more = match["more"] or ""
    return ", no " if more and match.group(0).lower().startswith("no") else more


def _majority(votes: Counter[str]) -> str | None:
    """The label with the most votes; None without votes and for a tie."""
    top = votes.most_common(2)
    if not top or (len(top) == 2 and top[0][1] == top[1][1]):
        return None
    return top[0][0]


_MORE = r"(?:\s*(?:,\s*and|,|\+|&|/|and)\s*\d{1,2}(?:[a-e]\b|\b)(?!\s*%|\.\d))*"
_CODE_LIST = rf"s?(?:[\s_-]*#?|[\"']?\s*(?:are|is|[:=])\s*\[?)\s*(\d{{1,2}}(?!\d)(?:[a-e]\b|[lr]\b)?{_MORE})"


def _code_numbers(text: str, code: str) -> list[int]:
    """Numbers of all codes in lower-case `text`: "au12", "aus 1, 2 and 4", "au1+2", "action unit 6"."""
    pattern = re.compile(rf"(?<![a-z])(?:{code.lower()}|action[ _]unit){_CODE_LIST}")
    return [int(n) for m in pattern.finditer(text) for n in re.findall(r"\d+", m.group(1))]


def parse_lines(task: Task, lines: Iterable[str]) -> Iterator[dict]:
    """Reads JSON lines with a ``text`` field and yields each object with ``task.field`` added (null: nothing
    found).

    A field of that name in the input is replaced. Blank lines are skipped. Raises UsageError naming the line
    for a line that is not a JSON object with a string ``text``.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = from_json(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"line {number} is not JSON ({error.msg}); expected an object with 'text'") from None
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise UsageError(f'line {number} has no string \'text\'; expected an object such as {{"text": "..."}}')
        value = getattr(task.parse(row["text"]), task.field)
        if isinstance(value, tuple):
            value = list(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        yield {**row, task.field: value}
