"""A folder that vLLM serves: ``python -m facellava.vllm_plugin FOLDER TARGET`` (docs/vllm.md)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from facellava.errors import FacellavaError, MissingExtra


def main(arguments: Sequence[str] | None = None) -> int:
    """Write it; the exit code."""
    parser = argparse.ArgumentParser("python -m facellava.vllm_plugin", description=__doc__)
    parser.add_argument("source", type=Path, help="a folder of facellava convert, or of a run")
    parser.add_argument("target", type=Path, help="the folder to be served; not there yet")
    given = parser.parse_args(arguments)
    try:
        try:
            from facellava.vllm_plugin.folder import prepare
        except ImportError as error:
            raise MissingExtra("torch", "preparing a folder") from error
        print(f"written to {prepare(given.source, given.target)}")
    except FacellavaError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
