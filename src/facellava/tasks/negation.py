"""Takes denied statements out of an answer before labels are looked for (appendix F.1: negative sentences).

Whole sentences are too coarse ("No tears, but the face displays sadness."), so a cue removes its clause only:

* a cue (no, not, n't, without, lacks, neither, rather than, ...) removes what follows up to the next break:
  the end of the sentence, a contrast (but, however, while, instead, ...), a new subject after a comma
  (", the ..."), or a participle that draws a conclusion (", suggesting ...");
* a denial of visibility ("... is not visible", "... are absent") removes the clause before it as well;
* so does a bare "is not" that ends a clause ("AU12 is present, AU6 is not");
* a line or cell of a checklist that ends in "no" ("AU4: no", "| AU4 | absent |", "AU4 (no)") is removed, and so
  are the bullets under a heading such as "Absent:";
* a comparison denies what it is compared with ("closer to anger than to disgust");
* "not only", "no doubt", "nothing but", "anything other than" deny nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]*]*\s+|\s*\n+\s*|;\s+")
# These end with a full stop without ending a sentence.
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|approx|Fig|Mr|Mrs|Ms|Dr|St)\.\s+")

_HARMLESS = re.compile(
    r"\b(?:not only|not just|not merely|no doubt|without (?:a )?doubt|nothing but|(?:any|no)thing other than"
    r"|no other than|none other than|not impossible|cannot be ruled out|can't be ruled out|without question)\b"
)
_CUE = re.compile(
    r"\b(?:no|not|never|none|neither|nor|cannot|\w+n't|(?:is|are|was|were|do|does|did|could|would|has)nt"
    r"|nothing|nowhere near|anything but|by no means|far from|without|lacks?|lacked|lacking|lack of|absence of"
    r"|absent (?:of|any)|free (?:of|from)|devoid of|bereft of|rather than|instead of|in lieu of|in place of"
    r"|as opposed to|unlike|hardly|barely any|scarcely|(?:little|minimal|few|zero) (?:to no )?"
    r"(?:signs?|evidence|traces?|hints?|indications?)|(?:fails?|failed|failing|unable) to"
    r"|rules? out|ruled out|excludes?|excluding|missing)\b(?!-)"
    r"|(?:\b(?:more|closer|sooner)\b[^.,;:]{0,80}?)(?P<than>\bthan\b)|(?P<less>\bless\b(?! than)[^.,;:]{0,80}?\bthan\b)"
    r"|^\W*(?:absent|inactive|missing)(?: \w+){0,2}\s*:"
)
_LEADING = re.compile(
    r"(?:without|rather than|instead of|in lieu of|in place of|as opposed to|unlike|lacking|far from|devoid of"
    r"|bereft of|free (?:of|from)|in the absence)\b"
)
_BREAK = re.compile(
    r"[,;:]?\s*\b(?:but|however|although|though|whereas|while|yet|instead(?! of)|nevertheless|nonetheless"
    r"|still,)\b"
    r"|\s[-–—]\s|—"
    r"|[,:]\s*(?:and |so |which )?(?=(?:the|this|that|these|his|her|their|its|it|he|she|they|there|i|we|you|only"
    r"|just|with|wearing|has|have|smiling(?! or| and|,)|overall|suggest\w*|indicat\w*|convey\w*"
    r"|mak(?:es|ing)|giv(?:es|ing)|show\w*|display\w*|point\w*)\b)"
    r"|\b(?:and|so) (?=(?:the|this|it|he|she|they|there) \w+)"
    r"|\b(?:and|so) (?=(?:is|are|was|has been|looks?|appears?|seems?|remains?|stays?|shows?|displays?|conveys?)\b)"
)
# A statement that is over: what follows the comma or the "and" is another clause.
_STATED = re.compile(r"\b(?:is|are|was|were|be|appears?|seems?|looks?)\b[^,;]*?(?:,\s*(?:and\s+)?|\band\s+)")
_SEEN = (
    r"(?:visible|present|active|activated|seen|evident|observed|detected|detectable|shown|clear|apparent|noticeable"
    r"|there|displayed|found|engaged|involved|observable|discernible|perceptible|true|coded|scored|triggered)"
)
_UNSEEN = re.compile(
    r"\b(?:is|are|was|were|be|being|been|do|does|did|can|could|appears?|seems?)?\s*"
    r"(?:not|n't|never|cannot|\w+n't|hardly|scarcely)\s+"
    rf"(?:(?:\w+ly|be|to|appear|seem|look|very|really|quite|at all)\s+){{0,3}}{_SEEN}\b"
    r"|\b(?:is|are|was|were|seems?|appears?|looks?)\s+(?:(?:\w+ly|to be)\s+){0,2}"
    r"(?:absent|missing|inactive|invisible|lacking|ruled out|unlikely|undetected|false)\b"
    r"|\b(?:is|are|was|were|do|does|did|has|have|can|could)(?:\s+not|n't)\s*(?=$|[.,;:!)])"
)
_NO = rf"(?:no|n|false|absent|inactive|off|none|0|0\.0|not {_SEEN})\b|[✗✘✖❌]"
_CHECKLIST = re.compile(
    r",\s*(?=[\"']?[\w '()]{1,60}[\"']?\s*(?:[:=]|\s[-–—])\s*[\"']?"
    r"(?:yes|no|true|false|present|absent|active|inactive|[01]\b(?!\s*[,+&]\s*\d+\b(?!\s*[:=]))|[✓✔✅✗✘✖❌]))",
    re.IGNORECASE,
)
_LIST_NO = re.compile(
    r"^[\s*\-\"'{|]*[^:=|\n]{1,60}[\"'*]*\s*(?:[:=|]|\s[-–—]|→|->|\s(?=[✗✘✖❌]))\s*[\"'*]*"
    rf"(?:{_NO})\ufe0f?\s*[,.\"'*}}\]|]*\s*(?=$|\()"
)
_LIST_HEAD = re.compile(
    rf"^\W*(?:absent|inactive|missing|not {_SEEN}|\w+(?: \w+)? (?:that are )?(?:absent|not {_SEEN}))"
    r"(?: [\w ]{1,30})?\W*:\W*$"
)
_BULLET = re.compile(r"^\s*(?:[-*•+–]|\d+[.)])\s")
_BRACKETED_NO = re.compile(rf"\(\s*(?:{_NO})\s*\)")


class Stripped(NamedTuple):
    """One sentence with its denied part taken out; both parts in lower case."""

    original: str
    affirmed: str
    denied: str


def split_sentences(text: str) -> list[str]:
    """Sentences of `text`; line ends and semicolons separate too. Empty ones are left out."""
    guarded = _ABBREVIATION.sub(lambda m: m.group(0).replace(".", "\u2024", 2).rstrip() + "\u00a0", text)
    parts = _SENTENCE.split(_CHECKLIST.sub("\n", guarded))
    return [clean for part in parts if (clean := part.replace("\u2024", ".").replace("\u00a0", " ").strip())]


def strip_negations(text: str) -> list[Stripped]:
    """Every sentence of `text`, split into what it affirms and what it denies (rules: the module's text)."""
    sentences, under_no = [], False
    for sentence in split_sentences(text):
        if under_no and _BULLET.match(sentence):
            sentences.append(Stripped(sentence, "", _lower(sentence)))
            continue
        under_no = bool(_LIST_HEAD.match(_lower(sentence)))
        sentences.append(_strip(sentence))
    return sentences


def _lower(sentence: str) -> str:
    return sentence.lower().replace("’", "'").replace("‘", "'")


def _strip(sentence: str) -> Stripped:
    lower = _lower(sentence)
    if _LIST_NO.search(lower):
        return Stripped(sentence, "", lower)
    masked = _HARMLESS.sub(lambda m: "\u0001" * len(m.group(0)), lower)
    cuts = _merge(_unseen_spans(masked) + _cue_spans(masked) + _bracketed_spans(masked))
    kept, gone, last = [], [], 0
    for start, end in cuts:
        kept.append(lower[last:start])
        gone.append(lower[start:end])
        last = end
    kept.append(lower[last:])
    return Stripped(sentence, " ".join(kept).strip(), " ".join(gone).strip())


def _unseen_spans(text: str) -> list[tuple[int, int]]:
    """The clauses that say of their subject that it cannot be seen."""
    spans = []
    for match in _UNSEEN.finditer(text):
        start = max((b.end() for b in _BREAK.finditer(text, 0, match.start())), default=0)
        start = max((b.end() for b in _STATED.finditer(text, start, match.start())), default=start)
        spans.append((start, match.end()))
    return spans


def _cue_spans(text: str) -> list[tuple[int, int]]:
    """From each cue to the next break after it."""
    spans: list[tuple[int, int]] = []
    covered = 0
    for match in _CUE.finditer(text):
        if match.end() <= covered:  # the same break would end it
            continue
        start = match.start("than") if match["than"] else match.start()
        if match["less"]:
            spans.append(match.span())
            continue
        leading = not text[: match.start()].strip(" \"'(*") and _LEADING.match(text, match.start())
        stop = _leading_end(text, match.end()) if leading else _next_break(text, match.end())
        covered = covered if leading else stop
        spans.append((start, stop))
    return spans


def _bracketed_spans(text: str) -> list[tuple[int, int]]:
    """Items with a denial in brackets: "AU4 (no)"."""
    matches = list(_BRACKETED_NO.finditer(text))
    starts = [max(text.rfind(mark, 0, match.start()) for mark in ",;)") + 1 for match in matches]
    return [(start, match.end()) for start, match in zip(starts, matches, strict=True)]


def _next_break(text: str, start: int) -> int:
    found = _BREAK.search(text, start)
    masked = text.find("\u0001", start)
    ends = [found.start() if found else len(text), masked if masked >= 0 else len(text)]
    return min(ends)


def _leading_end(text: str, start: int) -> int:
    """End of a leading phrase such as "Unlike anger or fear, ...": the comma before the main clause."""
    found = _BREAK.search(text, start)
    comma = text.rfind(",", start)
    if found:
        return found.start()
    return comma if comma >= 0 else len(text)


def _merge(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
