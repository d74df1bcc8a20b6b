"""Pictures and videos out of a request: data URLs, files sent before, and hosts that the operator allows."""

from __future__ import annotations

import binascii

from facellava.server.fetch import Fetcher
from facellava.server.problems import Problem
from facellava.server.settings import Bounds
from facellava.server.uploads import PREFIX, Uploads

__all__ = ["Sources"]


class Sources:
    """Where the bytes of a medium come from."""

    def __init__(self, uploads: Uploads, fetcher: Fetcher, bounds: Bounds) -> None:
        self._uploads, self._fetcher, self._bounds = uploads, fetcher, bounds

    async def read(self, reference: str, param: str) -> bytes:
        """The bytes of ``data:...;base64,...``, of a file's id, or of an allowed https address.

        Args:
            param: the field of the request, for messages.

        Raises:
            Problem: 400 for what is refused, 404 for an unknown file, 413 for what is too large, 502 and 504 for what
                cannot be fetched.
        """
        scheme = reference[:12].partition(":")[0].lower()
        try:
            if scheme == "data":
                return _data_url(reference)
            if reference.startswith(PREFIX):
                return self._uploads.get(reference).data
            if scheme in ("http", "https"):
                return await self._fetcher.fetch(reference)
        except Problem as problem:
            problem.param = problem.param or param
            raise
        raise Problem(
            400,
            "address_refused",
            "give the picture or video itself (data:image/jpeg;base64,...) or the id of a file sent to /v1/files",
            param=param,
        )


def _data_url(reference: str) -> bytes:
    head, comma, encoded = reference.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise Problem(400, "bad_data_url", "write a data URL as data:image/jpeg;base64,... with the file in base64")
    try:
        data = binascii.a2b_base64(encoded, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, "bad_data_url", "the data URL is not valid base64") from error
    if not data:
        raise Problem(400, "empty_file", "the data URL holds no bytes")
    return data
