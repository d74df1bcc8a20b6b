"""Words that have no place in a description: traces of the given label, disclaimers, claims about inner states."""

from __future__ import annotations

import re

_GIVEN = r"(?:given|provided|supplied|recorded|assigned|stated|specified|mentioned|indicated|listed|known|prior)"
_THING = (
    r"(?:labels?|tags?|annotations?|information|emotions?|expressions?|attributes?|ages?|action\s+units?|data"
    r"|list|prompt)"
)

LEAK = re.compile(
    rf"""
      # the given label, but not "none of the listed attributes", which is the beginning of an answer of ours
      (?<!none\ of\ )\b(?:the|your|this|these|any)\s+(?:\w+\s+)?{_GIVEN}\s+(?:\w+\s+)?{_THING}\b
    | \b{_THING}\s+(?:that\s+)?(?:was|were|you)\s+(?:\w+\s+)?(?:given|gave|provided|supplied|told|stated|labell?ed)\b
    | \bground[\s-]truth\b
    | \b(?:the|this|its|your)\s+(?:\w+\s+)?(?:label|tag|annotation|caption|prompt|instructions?)s?\b
    | \b(?:labell?ed|tagged|annotated|categori[sz]ed|classified|coded|flagged|marked)\s+as\b
    | \b(?:labell?ed|tagged|annotated)\s+(?:with|by)\b
    | \b(?:according\s+to|based\s+on|consistent\s+with|as\s+per|per)\s+(?:the|your|this)\s+(?:\w+\s+)?
        (?:data\s?set|label|tag|annotat\w+|information|description\s+given|prompt|metadata|coders?|list)
    | \bas\s+(?:you\s+)?
        (?:stated|mentioned|indicated|specified|described|noted|told|given|provided|instructed|requested|labell?ed)\b
    | \byou\s+(?:have\s+)?(?:gave|given|mentioned|said|told|stated|provided|asked|specified|indicated)\b
    | \b(?:i|we)\s+(?:was|were|am|have\s+been)\s+(?:told|informed|given|asked|instructed|provided)\b
    | \bdata\s?set\b
    | \bprior\s+(?:knowledge|information)\b
    | \b(?:certified\s+)?FACS\s+coders?\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""That the label was known beforehand."""

DISCLAIMER = re.compile(
    r"""
      \bas\s+an?\s+(?:ai|artificial|large\s+language|language)\b
    | \b(?:i|we)(?:\s+am|['’]m|\s+are|['’]re)?\s+
        (?:cannot|can\s+not(?!\s+only)|can['’]t|unable|not\s+able|not\s+allowed)\b
    | \b(?:i['’]m|i\s+am)\s+sorry\b | \bi\s+apologi[sz]e\b
    | \bit(?:\s+is|['’]s)\s+(?:not\s+possible|impossible|difficult|hard)\s+to\s+
        (?:say|tell|determine|know|assign|be\s+certain|be\s+sure)\b
    | \b(?:disclaimer|please\s+note|note\s+that|keep\s+in\s+mind|it\s+is\s+important\s+to\s+note)\b
    | \bwithout\s+(?:more|further|additional)\s+(?:context|information)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Refusals and caveats."""

INNER_STATE = re.compile(
    r"""
      \b(?:he|she|they|person|man|woman|subject|individual|child|boy|girl)\s+(?:\w+\s+){0,3}(?:feels?|feeling)\b
    | \b(?:inner|true|real|genuine)\s+(?:feelings?|emotions?)\b
    | \bfeelings?\s+of\b
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""Claims about what somebody feels; a description says what is displayed."""


def find_leak(text: str) -> str | None:
    """The words that tell that the label was given, None when there are none."""
    found = LEAK.search(text)
    return found and " ".join(found.group().split())


def find_disclaimer(text: str) -> str | None:
    """The words of a refusal or caveat."""
    found = DISCLAIMER.search(text)
    return found and " ".join(found.group().split())


def find_inner_state(text: str) -> str | None:
    """The words that claim a feeling."""
    found = INNER_STATE.search(text)
    return found and " ".join(found.group().split())
