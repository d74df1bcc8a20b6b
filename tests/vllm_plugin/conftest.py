"""The adapter on a stand-in for vLLM's interface, for the length of a test."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import vllm_world

ADAPTER = "facellava.vllm_plugin.adapter"


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    vllm_world.install(monkeypatch)
    sys.modules.pop(ADAPTER, None)
    yield importlib.import_module(ADAPTER)
    sys.modules.pop(ADAPTER, None)
