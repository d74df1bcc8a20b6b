"""Files that clients sent ahead of a question: in memory, for a while, under names that cannot be guessed."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from facellava.errors import EmptyFile, UnsupportedMedia
from facellava.face.sniff import sniff
from facellava.server.measures import Measures
from facellava.server.problems import Problem, busy
from facellava.server.settings import Bounds

__all__ = ["PREFIX", "Upload", "Uploads", "plain_name"]

PREFIX = "file-"
LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """One file. ``name`` is the client's, for the client only: nothing is ever opened by it."""

    name: str
    purpose: str
    data: bytes = field(repr=False)
    seconds: float
    id: str = field(default_factory=lambda: PREFIX + secrets.token_hex(16))
    created: float = field(default_factory=time.time)
    until: float = field(init=False)
    """By the clock that nobody can set: a file stays no longer because the machine's time was put back."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "until", time.monotonic() + self.seconds)

    @property
    def expires(self) -> float:
        """Seconds since 1970."""
        return self.created + self.seconds

    def to_dict(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": int(self.created),
            "expires_at": int(self.expires),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


class Uploads:
    """All files of a server; for the event loop's thread."""

    def __init__(self, bounds: Bounds, measures: Measures) -> None:
        self._bounds, self._measures = bounds, measures
        self._files: dict[str, Upload] = {}

    def add(self, name: str, purpose: str, data: bytes, seconds: float | None = None) -> Upload:
        """Keep a file, no longer than the server's limit.

        Raises:
            EmptyFile, UnsupportedMedia: it is no picture or video. Problem: 429, there is no room.
        """
        if not data:
            raise EmptyFile("the file is empty (0 bytes)")
        if sniff(data[:4096]) is None:
            raise UnsupportedMedia("the file is neither a picture nor a video: convert it first")
        self.forget()
        held = sum(len(file.data) for file in self._files.values())
        if held + len(data) > self._bounds.uploads or len(self._files) >= self._bounds.upload_count:
            soonest = min((file.until for file in self._files.values()), default=time.monotonic())
            message = "no room for more files: delete some, or try later"
            raise busy("uploads_full", message, soonest - time.monotonic(), status=429)
        kept = min(seconds or self._bounds.upload_seconds, self._bounds.upload_seconds)
        upload = Upload(plain_name(name), purpose, data, kept)
        self._files[upload.id] = upload
        self._measure()
        return upload

    def get(self, name: str) -> Upload:
        """The file of this id. Raises Problem: 404 for one that is not, or no longer, here."""
        upload = self._files.get(name)
        if upload is None or upload.until < time.monotonic():
            raise Problem(404, "file_not_found", "there is no such file, or it has expired")
        return upload

    def remove(self, name: str) -> None:
        """Forget a file; raises as :meth:`get`."""
        del self._files[self.get(name).id]
        self._measure()

    def forget(self) -> None:
        """Drop what has expired."""
        now = time.monotonic()
        self._files = {name: file for name, file in self._files.items() if file.until >= now}
        self._measure()

    def _measure(self) -> None:
        self._measures.upload_bytes.set(sum(len(file.data) for file in self._files.values()))


def plain_name(name: str) -> str:
    """A client's file name as a label: the last part of it, printable, not too long."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:LONGEST_NAME] or "upload"
