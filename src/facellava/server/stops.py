"""Ending an answer at a text that the client names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["StopTexts"]


class StopTexts:
    """Passes pieces on up to the first of some texts.

    Attributes:
        met: whether one came.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self.met = False

    def cut(self, pieces: Iterator[str]) -> Iterator[str]:
        """The pieces without the stop text and what follows; what may be its beginning is held back."""
        held = ""
        for piece in pieces:
            held += piece
            places = [place for stop in self._stops if (place := held.find(stop)) >= 0]
            if places:
                self.met = True
                held = held[: min(places)]
                break
            keep = max((self._begun(held, stop) for stop in self._stops), default=0)
            if ready := held[: len(held) - keep]:
                yield ready
            held = held[len(held) - keep :]
        if held:
            yield held

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """How many letters at the end of a text begin a stop text."""
        longest = min(len(text), len(stop) - 1)
        return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
