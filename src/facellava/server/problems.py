"""What goes wrong with a request: status, code and one line for people, in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from facellava.errors import FacellavaError

__all__ = ["Problem", "busy"]

_STATUS = {
    "usage": 400,
    "empty_file": 400,
    "damaged_media": 400,
    "media_too_large": 413,
    "unsupported_media": 415,
    "no_face": 422,
    "face_leaves_frame": 422,
    "several_faces": 422,
    "landmarks_failed": 422,
    "missing_extra": 501,
    "weights_unavailable": 503,
}
"""Of our errors; what is not listed is the server's fault."""
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Problem(Exception):
    """Ends a request.

    Attributes:
        status: of the response. code: stable, for programs. message: one line, for people.
        param: the field of the request that is to blame.
        headers: further headers of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, " ".join(message.split()), param
        self.headers = dict(headers or {})

    @classmethod
    def of(cls, error: FacellavaError) -> Problem:
        """One of our errors, its code kept."""
        return cls(_STATUS.get(error.code, 500), error.code, str(error))

    def to_dict(self) -> dict[str, Any]:
        """``{"error": {"message", "type", "param", "code"}}``."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def body(self) -> bytes:
        """The same as JSON."""
        # a message may quote what is no valid Unicode
        return json.dumps(self.to_dict()).encode("ascii")


def busy(code: str, message: str, seconds: float = 1.0, *, status: int = 503) -> Problem:
    """Try again in so many seconds."""
    return Problem(status, code, message, headers={"retry-after": str(max(1, round(seconds)))})
