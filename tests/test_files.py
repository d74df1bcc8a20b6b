"""What the system says while files are written stays what it is."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from facellava.files import writing_tensors


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
