"""One request and one reply, whichever service answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

from facellava.errors import FacellavaError


@dataclass(frozen=True, slots=True)
class Attachment:
    """An encoded picture or video: its bytes and media type (``image/jpeg``, ``video/mp4``)."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a model; everything that determines the answer is in it.

    Attributes:
        model: pinned id.
        text: the user's message, after the attachments.
        attachments: pictures in temporal order, or one video where the service takes videos.
        system: the system message, "" for none.
        json: ask the service for a JSON object.
        max_tokens: of the answer.
        temperature, seed: passed on; services need not honour the seed.
        attempt: how often this was asked before; makes a repeated question a new one.
    """

    model: str
    text: str
    attachments: tuple[Attachment, ...] = ()
    system: str = ""
    json: bool = True
    max_tokens: int = 512
    temperature: float = 0.0
    seed: int | None = None
    attempt: int = 0

    @property
    def key(self) -> str:
        """SHA-256 over every field, the pictures by their own digest."""
        record = asdict(self)
        record["attachments"] = [[a.media_type, hashlib.sha256(a.data).hexdigest()] for a in self.attachments]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The text of an answer and what it cost; ``finish`` is ``stop``, ``length`` or ``refused``."""

    text: str
    model: str
    input_tokens: int
    output_tokens: int
    finish: str = "stop"


class ChatClient(Protocol):
    """A service that answers. Safe to use from several threads.

    Attributes:
        name: the service's host, which a user names in ``--send-media-to``.
        local: it runs on this machine (loopback), so that pictures do not leave it.
        takes_batches: has a batch interface.
    """

    name: str
    local: bool
    takes_batches: bool

    def complete(self, request: ChatRequest) -> ChatReply:
        """Ask once, with retries on what may pass (429, 5xx, time-outs, broken connections).

        Raises:
            ProviderFailed: after all retries, or at once for what will not pass (401, 400).
            BudgetExceeded: where a cap is set.
        """
        ...

    def complete_batch(
        self, requests: Iterable[ChatRequest]
    ) -> Iterator[tuple[ChatRequest, ChatReply | FacellavaError]]:
        """Ask through the service's batch interface; an answer or an error for every request, in any order."""
        ...
