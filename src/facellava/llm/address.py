"""Where a service runs, and what may be said about it."""

from __future__ import annotations

import ipaddress


def is_local(host: str) -> bool:
    """Whether the host is this machine's loopback; names other than ``localhost`` are not looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_key(text: str, key: str) -> str:
    """A service's words in one short line, without the key: some services repeat it."""
    line = " ".join((str(text).replace(key, "[key]") if key else str(text)).split())
    return line if len(line) <= 160 else line[:157] + "..."
