"""Pretrained files: the register, and the way from a name to a checked file on disk.

``resolve("face-mesh")`` returns a path. Nothing else in the project downloads anything.
"""

from facellava.weights.cache import cache_dir, locked, writing
from facellava.weights.progress import TerminalProgress
from facellava.weights.register import Register, Weight, default_register
from facellava.weights.resolver import Status, is_offline, resolve, status, verify

__all__ = [
    "Register",
    "Status",
    "TerminalProgress",
    "Weight",
    "cache_dir",
    "default_register",
    "is_offline",
    "locked",
    "resolve",
    "status",
    "verify",
    "writing",
]
