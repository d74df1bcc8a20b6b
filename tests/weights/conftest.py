"""A world of its own for every test: cache, wheels, and no setting of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from weights_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in list(os.environ):
        if name.startswith(("PIP_", "FACELLAVA_")):
            monkeypatch.delenv(name)
    made = World(tmp_path)
    made.index.mkdir()
    monkeypatch.setenv("FACELLAVA_CACHE", str(made.cache))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    return made
