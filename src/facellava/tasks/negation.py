"""Takes denied statements out of an answer before labels are looked for (appendix F.1: negative sentences).

Whole sentences are too coarse ("No tears, but the face displays sadness."), so a cue removes its clause only:

* a cue (no, not, n't, without, lacks, neither, rather than, ...) removes what follows up to the next break:
  the end of the sentence, a contrast (but, however, while, instead, ...), a new subject after a comma
  (", the ..."), or a participle that draws a conclusion (", suggesting ...");
* a denial of visibility ("... is not visible", "... are absent") removes the clause before it as well;
* a line of a checklist that ends in "no" ("AU4: no") is removed;
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
    r"|no other than|not impossible|cannot be ruled out|can't be ruled out)\b"
)
_CUE = re.compile(
    r"\b(?:no|not|never|none|neither|nor|cannot|\w+n't|without|lacks?|lacked|lacking|lack of|absence of"
    r"|free (?:of|from)|devoid of|rather than|instead of|as opposed to|unlike|hardly|barely any|scarcely"
    r"|fails? to|rules? out|ruled out|excludes?|excluding|missing)\b(?!-)"
)
_LEADING = re.compile(
    r"(?:without|rather than|instead of|as opposed to|unlike|lacking|free (?:of|from)|in the absence)\b"
)
_BREAK = re.compile(
    r"[,;:]?\s*\b(?:but|however|although|though|whereas|while|yet|instead(?! of)|nevertheless|nonetheless"
    r"|still,)\b"
    r"|\s[-–—]\s|—"
    r"|,\s*(?:and |so |which )?(?=(?:the|this|that|these|his|her|their|its|it|he|she|they|there|i|we|you|only"
    r"|just|with|wearing|has|have|smiling(?! or| and|,)|overall|suggest\w*|indicat\w*|convey\w*"
    r"|mak(?:es|ing)|giv(?:es|ing)|show\w*|display\w*|point\w*)\b)"
    r"|\b(?:and|so) (?=(?:the|this|it|he|she|they|there) \w+)"
)
_SEEN = (
    r"(?:visible|present|active|activated|seen|evident|observed|detected|detectable|shown|clear|apparent|noticeable"
    r"|there|displayed|found|engaged|involved|observable|discernible|perceptible|true)"
)
_UNSEEN = re.compile(
    r"\b(?:is|are|was|were|be|being|been|do|does|did|can|could|appears?|seems?)?\s*"
    r"(?:not|n't|never|cannot|\w+n't)\s+"
    rf"(?:(?:\w+ly|be|to|appear|seem|look|very|really|quite|at all)\s+){{0,3}}{_SEEN}\b"
    r"|\b(?:is|are|was|were|seems?|appears?|looks?)\s+(?:(?:\w+ly|to be)\s+){0,2}"
    r"(?:absent|missing|inactive|invisible|lacking|ruled out|unlikely|false)\b"
)
_CHECKLIST = re.compile(
    r",\s*(?=[\"']?[\w ]{1,40}[\"']?\s*[:=]\s*[\"']?(?:yes|no|true|false|present|absent)\b)", re.IGNORECASE
)
_LIST_NO = re.compile(
    r"^[\s*\-\"']*[^:=\n]{1,60}[\"'*]*\s*[:=]\s*[\"'*]*"
    r"(?:no|false|absent|inactive|off|0|0\.0|not (?:present|active|visible))\b\s*[,.\"'*]*(?=$|\()"
)


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
    return [_strip(sentence) for sentence in split_sentences(text)]


def _strip(sentence: str) -> Stripped:
    lower = sentence.lower().replace("’", "'").replace("‘", "'")
    if _LIST_NO.search(lower):
        return Stripped(sentence, "", lower)
    masked = _HARMLESS.sub(lambda m: "\u0001" * len(m.group(0)), lower)
    cuts = _merge(_unseen_spans(masked) + _cue_spans(masked))
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
        starts = [b.end() for b in _BREAK.finditer(text, 0, match.start())]
        spans.append((max(starts, default=0), match.end()))
    return spans


def _cue_spans(text: str) -> list[tuple[int, int]]:
    """From each cue to the next break after it."""
    spans: list[tuple[int, int]] = []
    for match in _CUE.finditer(text):
        leading = not text[: match.start()].strip(" \"'(*") and _LEADING.match(text, match.start())
        stop = _leading_end(text, match.end()) if leading else _next_break(text, match.end())
        spans.append((match.start(), stop))
    return spans


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
