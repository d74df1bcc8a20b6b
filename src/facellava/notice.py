"""The notice of responsible use: one text, in one place, shown once per cache folder."""

from __future__ import annotations

import contextlib
from typing import TextIO

from facellava.weights import cache_dir

__all__ = ["TEXT", "show_once"]

TEXT = """\
facellava describes what a face displays. It does not know what a person feels, thinks or intends, and it does
not identify anyone. Ages are estimates; "possible manipulation" is a hint, never proof. Everything runs on this
machine; no face leaves it but for a service that you name. Inform the people you analyse, and check the law
where you are: in the EU, inferring emotions at work or in education is prohibited but for medical or safety
reasons (AI Act, Art. 5(1)(f)). `--mode movements` reports movements without any claim about expression.
More: docs/responsible-use.md."""

_MARK = "notice-1-shown"


def show_once(stream: TextIO) -> bool:
    """Write the notice to ``stream`` unless this cache folder remembers that it was shown. True when written."""
    mark = cache_dir() / _MARK
    if mark.exists():
        return False
    stream.write(TEXT + "\n")
    with contextlib.suppress(OSError):  # a read-only cache shows it every time
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    return True
