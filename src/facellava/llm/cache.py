"""Paid answers on disk: what was answered once is not asked again, whoever was killed in between."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

from .chat import ChatReply, ChatRequest


class CallCache:
    """Replies by service and request, in append-only segments, one for each process that writes.

    A reply is on the disk (fsync) when ``put`` returns. A torn last line of a killed process is ignored and never
    appended to, because every process has a segment of its own. Segments of processes that write at the same time are
    read at the start only: two processes may pay for the same call, one never does.

    Args:
        folder: of the segments; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{time.time_ns()}-{os.getpid()}.jsonl"
        self._lock = threading.Lock()
        self._replies: dict[str, ChatReply] = {}
        for segment in sorted(folder.glob("*.jsonl")):
            self._load(segment)

    def _load(self, segment: Path) -> None:
        with segment.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    row = json.loads(line)
                    self._replies[row["key"]] = ChatReply(**row["reply"])

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, service: str, request: ChatRequest) -> ChatReply | None:
        """The reply of that service, None when it was never given."""
        return self._replies.get(_key(service, request))

    def put(self, service: str, request: ChatRequest, reply: ChatReply) -> None:
        """Keep a reply."""
        key = _key(service, request)
        line = json.dumps({"key": key, "reply": dataclasses.asdict(reply)}, ensure_ascii=False) + "\n"
        with self._lock:
            with self._path.open("ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self._replies[key] = reply


def _key(service: str, request: ChatRequest) -> str:
    return f"{service} {request.key}"
