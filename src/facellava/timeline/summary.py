"""What a video's windows amount to, in words: counted from the rows, without a language model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Episode", "FaceSummary", "Summary", "clock"]

LONGEST_EPISODES = 3
Seconds = defaultdict[str, float]
SHOWN_FACES, SHOWN_GAPS, SHOWN_UNITS = 10, 8, 4


@dataclass(frozen=True, slots=True)
class Episode:
    """Neighbouring windows in which a face displays the same expression; ``start`` and ``end`` in seconds."""

    label: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long."""
        return self.end - self.start


@dataclass(slots=True)
class FaceSummary:
    """One track.

    Attributes:
        track: its number. first, last: seconds. seen: seconds of the windows that show it.
        expressions, units: seconds by label. abstained: seconds by reason.
        changes: how often the displayed expression of a window differs from that of the judged window before.
        longest: episodes, the longest first.
        years, low, high: windows by years of age. fake, authenticity: windows whose score points to
            manipulation, and all that were judged.
    """

    track: int
    first: float
    last: float = 0.0
    seen: float = 0.0
    expressions: Seconds = field(default_factory=lambda: defaultdict(float))
    units: Seconds = field(default_factory=lambda: defaultdict(float))
    abstained: Seconds = field(default_factory=lambda: defaultdict(float))
    changes: int = 0
    longest: list[Episode] = field(default_factory=list)
    years: Counter[int] = field(default_factory=Counter)
    low: Counter[int] = field(default_factory=Counter)
    high: Counter[int] = field(default_factory=Counter)
    fake: int = 0
    authenticity: int = 0
    _now: Episode | None = None

    def add(self, start: float, end: float, tasks: Mapping[str, Any]) -> None:
        """A window that shows it."""
        length = end - start
        self.seen += length
        self.last = end
        # a face is judged or not: the reason is the same for every task
        reasons = [task["reason"] or "" for task in tasks.values() if task["abstained"]]
        if reasons:
            self.abstained[reasons[0]] += length
            return
        if expression := tasks.get("expression"):
            self._express(expression["label"], start, end)
        for unit in tasks.get("action_units", {}).get("active", ()):
            self.units[unit] += length
        if (age := tasks.get("age")) and age["range"]:
            for counts, value in zip((self.years, self.low, self.high), (age["years"], *age["range"]), strict=True):
                counts[value] += 1
        if deepfake := tasks.get("deepfake"):
            self.authenticity += 1
            self.fake += deepfake["label"] == "fake"

    def _express(self, label: str, start: float, end: float) -> None:
        self.expressions[label] += end - start
        now = self._now
        self.changes += now is not None and now.label != label
        goes_on = now is not None and now.label == label and now.end == start
        self._now = Episode(label, now.start if goes_on and now else start, end)
        others = [one for one in self.longest if (one.label, one.start) != (label, self._now.start)]
        self.longest = sorted([*others, self._now], key=lambda e: (-e.seconds, e.start))[:LONGEST_EPISODES]


@dataclass(slots=True)
class Summary:
    """A whole video.

    Attributes:
        name: of the file. tasks: that were looked for. windows: in number. end: seconds.
        faces: by number of their track. without: seconds without a face, by code of the reason.
        gaps: (start, end, code) of the first windows that could not be read.
    """

    name: str
    tasks: Sequence[str]
    windows: int = 0
    end: float = 0.0
    faces: dict[int, FaceSummary] = field(default_factory=dict)
    without: Counter[str] = field(default_factory=Counter)
    gaps: list[tuple[float, float, str]] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """One window's dictionary; they come in order."""
        start, end, error = record["start"], record["end"], record["error"]
        self.windows += 1
        self.end = end
        if error:
            self.without[error["code"]] += end - start
            if error["code"] != "no_face" and len(self.gaps) < SHOWN_GAPS:
                self.gaps.append((start, end, error["code"]))
        for face in record["faces"]:
            one = self.faces.setdefault(face["id"], FaceSummary(face["id"], start))
            one.add(start, end, face["tasks"])

    def text(self) -> str:
        """Plain text, a paragraph a face; the faces that are seen longest come first."""
        order = sorted(self.faces.values(), key=lambda face: (-face.seen, face.track))
        shown, rest = order[:SHOWN_FACES], order[SHOWN_FACES:]
        parts = ["\n".join(self._head())] + ["\n".join(self._face(face)) for face in shown]
        if rest:
            longest = clock(rest[0].seen)
            parts.append(f"{len(rest)} more faces, each seen for {longest} or less, are in the table.")
        return "\n\n".join([*parts, _NOTE])

    def _head(self) -> list[str]:
        windows = f"{self.windows} window{'' if self.windows == 1 else 's'}"
        faces = f"{len(self.faces)} face{'' if len(self.faces) == 1 else 's'}"
        lines = [f"{self.name}: {clock(self.end)} in {windows}, {faces} (numbered by place; nobody is recognised)."]
        if no_face := self.without["no_face"]:
            lines.append(f"No face in {clock(no_face)}.")
        unread = sum(self.without.values()) - no_face
        if unread:
            where = ", ".join(f"{clock(a)} to {clock(b)} ({code})" for a, b, code in self.gaps)
            lines.append(f"Could not be looked at: {clock(unread)}, among it {where}.")
        return lines

    def _face(self, face: FaceSummary) -> list[str]:
        lines = [f"Face {face.track}: between {clock(face.first)} and {clock(face.last)}, seen for {clock(face.seen)}."]
        judged = face.seen - sum(face.abstained.values())
        for reason, seconds in _most(face.abstained)[:2]:
            lines.append(f"  No statement in {seconds / face.seen:.0%} of the time seen: {reason}.")
        if not judged:
            return lines
        if face.expressions:
            lines += _expressions(face)
        if "action_units" in self.tasks:
            top = ", ".join(f"{n} in {s / face.seen:.0%}" for n, s in _most(face.units)[:SHOWN_UNITS])
            lines.append(f"  Movements, of the time seen: {top or 'none clearly visible'}.")
        if face.years:
            years, low, high = map(_median, (face.years, face.low, face.high))
            lines.append(f"  Apparent age: about {years} years, between {low} and {high} (an estimate).")
        if face.authenticity:
            lines.append(
                f"  Authenticity: the model's score points to manipulation in {face.fake} of {face.authenticity} "
                "windows; this is no proof."
            )
        return lines


_NOTE = (
    "Displayed expressions are what a face shows, not what a person feels. A window stands for the few frames of it "
    "that were looked at."
)


def _most(seconds: Seconds) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])


def _expressions(face: FaceSummary) -> list[str]:
    shares = [f"{name} in {seconds / face.seen:.0%}" for name, seconds in _most(face.expressions)]
    longest = ", ".join(f"{e.label} from {clock(e.start)} to {clock(e.end)}" for e in face.longest)
    changes = f"{face.changes} change{'' if face.changes == 1 else 's'}"
    return [
        f"  Displayed expression, of the time seen: {', '.join(shares)}.",
        f"  {changes} between judged windows; longest episodes: {longest}.",
    ]


def _median(counts: Mapping[int, int]) -> int:
    """The lower median of values that are counted."""
    half, so_far = (sum(counts.values()) + 1) // 2, 0
    for value in sorted(counts):
        so_far += counts[value]
        if so_far >= half:
            return value
    raise AssertionError("a median needs a value")


def clock(seconds: float) -> str:
    """0:05, 12:34, 1:02:03; whole seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
