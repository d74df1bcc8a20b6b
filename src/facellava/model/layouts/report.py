"""What was found in a checkpoint and what became of it, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from facellava.errors import DamagedCheckpoint

__all__ = ["Report", "some"]

SHOWN = 3


def some(names: Sequence[str]) -> str:
    """The first few of many."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


@dataclass
class Report:
    """A checkpoint's reading, and its writing where it was converted.

    Attributes:
        source, layout: what was read. tensors: how many it holds, with those of added towers.
        taken: how many tensors of ours they fill.
        missing: tensors that the layout should have, in its own names.
        unexpected: tensors that it should not have.
        wrong: tensors of another shape or type than the model needs, with both.
        dropped: reason -> tensors that our model does not use.
        initialised: part of ours -> how it was drawn, for parts that the layout does not have.
        warnings: what changes results.
        to, written, files: the layout written, its number of tensors, and its files; empty before.
        left_out: tensors of ours that the written layout has no place for.
        filled: tensors of the written layout that ours has not: drawn so that they have no effect.
        parameters: part of ours -> number of parameters.
        tokenizer: what became of it. profile: that was asked for, "" for none.
    """

    source: str
    layout: str
    tensors: int = 0
    taken: int = 0
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    initialised: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    to: str = ""
    written: int = 0
    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    parameters: Mapping[str, int] = field(default_factory=dict)
    tokenizer: str = ""
    profile: str = ""

    def to_json(self) -> dict[str, Any]:
        """All of it, with every name."""
        return asdict(self)

    def refuse(self) -> None:
        """Raises ``DamagedCheckpoint`` where the tensors are not those that the layout asks for."""
        found = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape or type": self.wrong,
        }
        parts = [f"{len(names)} {what}: {some(names)}" for what, names in found.items() if names]
        if not parts:
            return
        hint = ""
        if any("_tower." in name for name in self.missing):
            hint = "; vision towers can be taken from another checkpoint (--towers)"
        raise DamagedCheckpoint(f"{self.source} (layout {self.layout}): tensors {'; '.join(parts)}{hint}")

    def text(self) -> str:
        """For people."""
        lines = [f"{self.source}: layout {self.layout}, {self.tensors:,} tensors, {self.taken:,} of ours filled"]
        lines += [f"  {what}: {some(names)}" for what, names in self._lists() if names]
        lines += [f"  dropped ({len(names):,}): {why}: {some(names)}" for why, names in self.dropped.items()]
        if self.initialised:
            lines.append(f"  initialised: {', '.join(self.initialised)}")
            lines += [f"    {part}: {how}" for part, how in self.initialised.items()]
        lines += [f"  {part:<20}{count:>16,} parameters" for part, count in self.parameters.items()]
        if self.tokenizer:
            lines.append(f"  tokenizer: {self.tokenizer}")
        if self.profile:
            lines.append(f"  profile: {self.profile}")
        if self.to:
            lines.append(f"  written as {self.to}: {self.written:,} tensors in {', '.join(self.files)}")
        return "\n".join(lines)

    def _lists(self) -> list[tuple[str, list[str]]]:
        return [
            (f"missing ({len(self.missing):,})", self.missing),
            (f"unexpected ({len(self.unexpected):,})", self.unexpected),
            (f"of another shape or type ({len(self.wrong):,})", self.wrong),
            (f"left out ({len(self.left_out):,}), no place in this layout", self.left_out),
            (f"filled ({len(self.filled):,}), without effect", self.filled),
        ]
