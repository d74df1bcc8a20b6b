"""What a layout of a checkpoint is: a table of names, and what it holds or lacks beyond our model.

In names ``#`` stands for a layer's number, a name that ends with a dot for everything that starts so, and the empty
name for everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple

__all__ = ["Layout", "Passive", "matches"]

Width = Literal["vision", "text", "rotary"]


class Passive(NamedTuple):
    """Tensors of a layout that our model does not use.

    Attributes:
        reason: why, for the report.
        width: their only axis where they are needed to write the layout; None for those that are never written.
        value: of every element when they are written anew (``rotary`` widths are computed).
    """

    reason: str
    width: Width | None = None
    value: float = 0.0


@cache
def _pattern(name: str) -> re.Pattern[str]:
    number = r"(\d+)".join(re.escape(part) for part in name.split("#"))
    return re.compile(number + ("(?P<rest>.+)" if name.endswith(".") or not name else ""))


def matches(name: str, key: str) -> bool:
    """Whether a key has a table's name."""
    return _pattern(name).fullmatch(key) is not None


def _translate(key: str, table: Iterable[tuple[str, str]]) -> str | None:
    for source, target in table:
        match = _pattern(source).fullmatch(key)
        if match is not None:
            numbers = iter(match.groups())
            for _ in range(target.count("#")):
                target = target.replace("#", next(numbers), 1)
            return target + (match.groupdict().get("rest") or "")
    return None


@dataclass(frozen=True)
class Layout:
    """One way to name a checkpoint's tensors.

    Attributes:
        name: for the command line. title: for people.
        has, lacks: regular expressions; every one of ``has`` finds some key, none of ``lacks`` does.
        names: theirs -> ours.
        joined: one tensor of theirs -> several of ours, stacked along the first axis.
        passive: what our model does not use, by name.
        new: parts of ours that the layout never has; they are initialised.
        text: the language model's settings stand at the ``top`` of config.json or under ``text_config``.
        vision, fusion: settings of our configuration that the layout implies.
        padded: the vocabulary ends with rows for pictures and padding, cut at ``image_token_index``.
        prefers: prompt style of its language model; empty to go by the tokenizer.
        writable: ``convert --to`` can write it.
    """

    name: str
    title: str
    has: tuple[str, ...]
    names: Mapping[str, str]
    lacks: tuple[str, ...] = ()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    passive: Mapping[str, Passive] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    text: Literal["top", "text_config"] = "top"
    vision: Mapping[str, Any] = field(default_factory=dict)
    fusion: Mapping[str, Any] = field(default_factory=dict)
    padded: bool = False
    prefers: Literal["", "vicuna"] = ""
    writable: bool = False

    def fits(self, keys: Iterable[str]) -> bool:
        """Whether these are the keys of such a checkpoint, going by its marks alone."""
        text = "\n".join(keys)
        found = [re.search(mark, text, re.MULTILINE) is not None for mark in self.has]
        return all(found) and not any(re.search(mark, text, re.MULTILINE) for mark in self.lacks)

    def ours(self, key: str) -> str | None:
        """Our name of one of their tensors; None for a name that the table does not have."""
        return _translate(key, self.names.items())

    @cached_property
    def _back(self) -> tuple[tuple[str, str], ...]:
        return tuple((ours, theirs) for theirs, ours in self.names.items())

    def theirs(self, name: str) -> str | None:
        """Their name of one of our tensors, of the joined one where it is a part; None without a place for it."""
        whole = next((joined for joined, parts in self.joined.items() if name in parts), None)
        return whole or _translate(name, self._back)

    def unused(self, key: str) -> Passive | None:
        """What is known about a tensor of theirs that our model does not use."""
        return next((passive for name, passive in self.passive.items() if matches(name, key)), None)
