"""Paid answers on disk: what was answered once is not asked again, whoever was killed in between."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
import time
from pathlib import Path

from facellava.errors import NoSpace
from facellava.files import json_row

from .chat import ChatReply, ChatRequest

_log = logging.getLogger(__name__)


class CallCache:
    """Replies by service and request, in append-only segments, one for each process that writes.

    A reply is on the disk (fsync) when ``put`` returns. A torn last line of a killed process is ignored and never
    appended to, because every process has a segment of its own. Segments of processes that write at the same time are
    read at the start only: two processes may pay for the same call, one never does. Damaged lines are told and left
    out.

    Args:
        folder: of the segments; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._process = 0
        self._path = folder
        self._lock = threading.Lock()
        self._replies: dict[str, ChatReply] = {}
        for segment in sorted(folder.glob("*.jsonl")):
            self._load(segment)

    def _load(self, segment: Path) -> None:
        damaged = 0
        with segment.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json_row(line) or {}
                    self._replies[row["key"]] = ChatReply(**row["reply"])
                except (KeyError, TypeError):
                    damaged += 1
        if damaged:
            _log.warning("%s: %d damaged answer(s), which will be asked for again", segment, damaged)

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, service: str, request: ChatRequest) -> ChatReply | None:
        """The reply of that service, None when it was never given."""
        return self._replies.get(_key(service, request))

    def put(self, service: str, request: ChatRequest, reply: ChatReply) -> None:
        """Keep a reply.

        Raises:
            NoSpace: it could not be written.
        """
        key = _key(service, request)
        line = json.dumps({"key": key, "reply": dataclasses.asdict(reply)}, ensure_ascii=False) + "\n"
        # half a surrogate pair is a valid JSON string that UTF-8 cannot hold; escapes can
        data = line.encode() if _encodable(line) else (json.dumps(json.loads(line)) + "\n").encode()
        with self._lock:
            try:
                self._append(data)
            except OSError as error:
                raise NoSpace(f"{self._path}: {error.strerror}: a paid answer could not be kept") from error
            self._replies[key] = reply

    def _append(self, data: bytes) -> None:
        new = self._process != os.getpid()
        if new:  # also in the child of a fork, which must not write into its parent's segment
            self._process = os.getpid()
            self._path = self._folder / f"{time.time_ns()}-{self._process}.jsonl"
        with self._path.open("ab") as file:
            end = file.tell()
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), end)  # what is written next must not continue half a line
                raise
        if new:
            _sync_folder(self._folder)


def _key(service: str, request: ChatRequest) -> str:
    return f"{service} {request.key}"


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only when its folder is."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
