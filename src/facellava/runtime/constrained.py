"""Answers of a given form, by construction: a JSON schema, a list of choices or a regular expression.

Before every token the model may only choose among those after which the answer can still become what was asked for;
what can be written in one way only is not asked of the model at all. Needs the ``structured`` extra (llguidance), which
works on the tokenizer and on masks, so every runtime shares it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facellava.errors import MissingExtra, UsageError

__all__ = ["CLOSING_TOKENS", "Constraint", "Guide", "Vocabulary"]

CLOSING_TOKENS = 256
"""How far an answer may go over its length limit to come to a proper end."""
LONGEST_NUMBER = 17
"""Characters of a number in an answer that is being closed: more than a double holds."""
UNWRITABLE = "the model's tokenizer cannot write what the constraint asks for"
_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""As ``json.dumps`` writes, which is what the model has read in training; free white space could go on forever."""
_MERGED = ("anyOf", "oneOf", "$ref")
_BY_NAME = ("properties", "$defs", "definitions")
_NESTED = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an answer may be. Build one with :meth:`json`, :meth:`choices` or :meth:`regex`; use it any number of times.

    Attributes:
        kind: of the three.
        grammar: in the library's own form.
    """

    kind: Literal["json", "choices", "regex"]
    grammar: str

    @classmethod
    def json(cls, schema: Mapping[str, Any]) -> Constraint:
        """JSON on one line that is valid under a schema, its properties in the schema's order.

        Properties that the schema does not name are only written where it sets ``additionalProperties`` itself. Bound
        what can be long (``maxLength``, ``maxItems``, ``maximum``): an answer that reaches its length limit is closed
        as soon as the schema allows. Texts are then cut, lists end and optional properties are left out, while every
        required property is still the model's answer.

        Raises:
            UsageError: the schema is wrong, contradictory, or uses what cannot be enforced (``not``, look-around in a
                pattern). MissingExtra: ``structured`` is not installed.
        """
        library = _library()
        if not isinstance(schema, Mapping):
            raise UsageError(f"a JSON schema is an object, not {type(schema).__name__}")
        if not _exact(schema):
            raise UsageError(
                "the JSON schema cannot be used: a number in it has more than 15 digits or an exponent over 22"
            )
        try:
            text = json.dumps(schema if _merges(schema) else _closed(schema))
            grammar = library.LLMatcher.grammar_from_json_schema(text, overrides=_LAYOUT)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the JSON schema cannot be used: {_one_line(str(error))}") from error
        return cls("json", _checked(grammar, "the JSON schema cannot be used"))

    @classmethod
    def choices(cls, texts: Sequence[str]) -> Constraint:
        """One of some texts, letter by letter.

        Raises:
            UsageError: there is none, or one is empty. MissingExtra: ``structured`` is not installed.
        """
        library = _library()
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise UsageError("choices are a list of one or more texts, none of them empty")
        options = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        try:
            grammar = library.LLMatcher.grammar_from_lark(f"start: {options}")
        except UnicodeEncodeError as error:
            raise UsageError("a choice holds half a surrogate pair, which is no text: write it in UTF-8") from error
        return cls("choices", _checked(grammar, "a choice is unusable"))

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """A text that a regular expression matches from its first to its last letter.

        Raises:
            UsageError: the expression is wrong or has look-around or back references. MissingExtra: ``structured`` is
                not installed.
        """
        grammar = _library().LLMatcher.grammar_from_regex(pattern)
        return cls("regex", _checked(grammar, "the regular expression cannot be used"))

    def guide(self, vocabulary: Vocabulary) -> Guide:
        """What leads one answer."""
        return Guide(self, vocabulary)


class Vocabulary:
    """The tokens of a model as the library needs them; made once a model (a third of a second for 50,000 tokens).

    Args:
        tokenizer: JSON of the ``tokenizers`` library.
        stop: tokens that end an answer.

    Raises:
        MissingExtra: ``structured`` is not installed.
    """

    def __init__(self, tokenizer: str, stop: Collection[int]) -> None:
        self.stop = frozenset(stop)
        self.tokens = _library().LLTokenizer(tokenizer, eos_token=sorted(stop))

    @cached_property
    def _texts(self) -> list[bytes]:
        return [self.tokens.decode_bytes([token]) for token in range(self.tokens.vocab_size)]

    @cached_property
    def quote(self) -> NDArray[np.bool_]:
        """Tokens that are a quotation mark and nothing else."""
        return np.array([text == b'"' for text in self._texts])

    @cached_property
    def brackets(self) -> NDArray[np.bool_]:
        """Tokens that are one closing bracket and nothing else."""
        return np.array([text in (b"}", b"]") for text in self._texts])

    @cached_property
    def beyond_number(self) -> NDArray[np.bool_]:
        """Tokens that do not go on with a number."""
        return np.array([text[:1] not in b"0123456789.eE+-" or not text for text in self._texts])


class Guide:
    """Leads one answer token by token: where is it, what may follow, is it whole.

    Attributes:
        stop: tokens that end the answer where it is whole.
    """

    def __init__(self, constraint: Constraint, vocabulary: Vocabulary) -> None:
        self.stop = vocabulary.stop
        self._vocabulary, self._json = vocabulary, constraint.kind == "json"
        self._matcher = _library().LLMatcher(vocabulary.tokens, constraint.grammar, log_level=0)
        self._written = b""
        self._check()

    @property
    def whole(self) -> bool:
        """Whether the answer could end here."""
        return self._matcher.is_accepting()

    @property
    def ended(self) -> bool:
        """Whether the answer is whole and nothing can follow."""
        return self._matcher.is_stopped()

    def forced(self) -> list[int]:
        """The next tokens where there is only one way to go on; mostly empty."""
        return self._matcher.compute_ff_tokens()

    def advance(self, tokens: Sequence[int]) -> None:
        """Go on by tokens that :meth:`forced` or :meth:`mask` left."""
        self._matcher.consume_tokens(list(tokens))
        self._check()
        self._written += self._vocabulary.tokens.decode_bytes(list(tokens))

    def mask(self, logits: NDArray[np.float32], *, closing: bool = False) -> NDArray[np.float32]:
        """Logits (V,) with minus infinity where a token must not follow.

        Args:
            closing: the answer is too long already: of what may follow only what ends it, where there is such.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        size = min(len(logits), self._vocabulary.tokens.vocab_size)
        allowed = np.unpackbits(bits, bitorder="little")[:size].astype(bool)
        if closing:
            ending = allowed & self._ending()[:size]
            allowed = ending if ending.any() else allowed
        if not allowed.any():
            raise UsageError(UNWRITABLE)
        masked = np.full_like(logits, -np.inf)
        masked[:size][allowed] = logits[:size][allowed]
        return masked

    def unfinished(self, tokens: int) -> UsageError:
        """What to raise when there is no room left."""
        return UsageError(
            f"the answer is still incomplete after {tokens} tokens: raise max_new_tokens, or bound what the constraint "
            "lets grow (maxLength, maxItems, repetitions)"
        )

    def _ending(self) -> NDArray[np.bool_]:
        """Tokens that bring the answer closer to its end, by where in the JSON it is; all False: no preference."""
        words = self._vocabulary
        nothing = np.zeros(words.tokens.vocab_size, bool)
        place, length = _place(self._written) if self._json else ("between", 0)
        if place == "text":
            return words.quote
        if place == "number":
            return words.beyond_number if length >= LONGEST_NUMBER else nothing
        if place == "escape":
            return nothing
        if self.whole:
            nothing[list(words.stop)] = True
            return nothing
        return words.brackets if self._json else nothing

    def _check(self) -> None:
        if not self._matcher.is_error():
            return
        reason = _one_line(self._matcher.get_error())
        if reason.startswith("NoExtension"):
            raise UsageError(UNWRITABLE)
        raise UsageError(f"the constraint is too complex: {reason}")


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtra("structured", "an answer of a given form") from error
    return llguidance


def _checked(grammar: str, trouble: str) -> str:
    reason = _library().LLMatcher.validate_grammar(grammar)
    if reason:
        raise UsageError(f"{trouble}: {_one_line(reason)}")
    return grammar


def _one_line(message: str) -> str:
    """The line that says what is wrong."""
    lines = [line.strip() for line in message.splitlines() if line.strip()] or ["no reason given"]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])


def _exact(schema: Any) -> bool:
    """Whether the library keeps every number: it reads integers as doubles, and long fractions not to the last bit."""
    if isinstance(schema, Mapping | list | tuple):
        return all(map(_exact, schema.values() if isinstance(schema, Mapping) else schema))
    if isinstance(schema, float):
        digits, exponent = Decimal(repr(schema)).as_tuple()[1:]
        return isinstance(exponent, int) and len(digits) <= 15 and abs(exponent) <= 22
    return not isinstance(schema, int) or abs(schema) <= 2**53


def _merges(schema: Any) -> bool:
    """Whether objects are put together from several schemas, none of which knows all properties."""
    if isinstance(schema, list):
        return any(map(_merges, schema))
    if not isinstance(schema, Mapping):
        return False
    mixed = "properties" in schema and any(key in schema for key in _MERGED)
    return "allOf" in schema or mixed or any(map(_merges, schema.values()))


def _closed(schema: Any) -> Any:
    """With ``additionalProperties`` false in objects that list their properties and say nothing about others."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = dict(schema)
    for key in _BY_NAME:
        if isinstance(found.get(key), Mapping):
            found[key] = {name: _closed(part) for name, part in found[key].items()}
    for key in _NESTED:
        if key in found:
            found[key] = _closed(found[key])
    named = found.get("properties")
    if isinstance(named, dict) and set(found.get("required", ())) <= set(named) and "patternProperties" not in found:
        found.setdefault("additionalProperties", False)
    return found


def _place(text: bytes) -> tuple[Literal["text", "escape", "number", "between"], int]:
    """Where a beginning of JSON breaks off, and how long a number has become."""
    inside = escaped = False
    for letter in text:
        if escaped:
            escaped = False
        elif inside and letter == ord("\\"):
            escaped = True
        elif letter == ord('"'):
            inside = not inside
    if inside:
        return ("escape" if escaped else "text"), 0
    number = re.search(rb"-?[0-9][-+.0-9eE]*$", text)
    return ("number", len(number[0])) if number else ("between", 0)
