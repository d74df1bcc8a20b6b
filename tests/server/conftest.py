"""The tiny model, built once a session, and one server with everyday settings for all tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server_world import Running, decoder, serving, tiny_analyzer

from facellava.analyzer import Analyzer


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Analyzer:
    return tiny_analyzer(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def _usual_pace(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "model" in request.fixturenames or "usual" in request.fixturenames:
        paced = decoder(request.getfixturevalue("model"))
        paced.seconds, paced.never_ends = 0.0, False


@pytest.fixture(scope="session")
def usual(model: Analyzer) -> Iterator[Running]:
    with serving(model) as running:
        yield running
