"""What the system says while files are written stays what it is; what is damaged is told in one line."""

from __future__ import annotations

import errno
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from facellava.errors import DamagedCheckpoint, DamagedFile
from facellava.files import from_json, read_object, reading, writing_tensors


def test_a_file_that_may_not_grow_is_an_os_error_under_safetensors(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    path = tmp_path / "x.safetensors"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="File too large") as caught, writing_tensors(path):
            save_file({"x": np.zeros(4096, np.float32)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)


def test_what_is_not_the_systems_fault_stays_what_it_is() -> None:
    with pytest.raises(SafetensorError, match="broken header"), writing_tensors(Path("x")):
        raise SafetensorError("broken header")


DEEP = "[" * 100_000
"""More brackets than Python's reader follows."""


@pytest.mark.parametrize("text", [DEEP, b"\xff", "{", '{"a": 1'])
def test_text_that_is_no_json_is_told_as_such(text: str | bytes) -> None:
    with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
        from_json(text)


@pytest.mark.parametrize("text", [DEEP, "[]", "{", "null"])
def test_a_file_without_an_object_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DamagedCheckpoint, match=r"config\.json was cut off or changed \([^\n]+\): get.* again$"):
        read_object(tmp_path / "config.json")


def test_a_lookup_in_damaged_content_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DamagedFile, match="was cut off or changed"), reading(tmp_path / "x"):
        [][0]
