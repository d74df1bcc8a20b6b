"""The Gradio page: a real server on loopback, asked by Gradio's own client."""

from __future__ import annotations

import re
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from default_model import analyzer, astronaut
from facellava.errors import MissingExtra
from facellava.gradio_app import HOST, build, demo
from facellava.notice import TEXT


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=r"pip install 'facellava\[gradio\]'"):
        build(None)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """The address of a page, and Gradio's client for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        gradio = pytest.importorskip("gradio", reason="needs the gradio extra")
        client = pytest.importorskip("gradio_client")
        url = demo(analyzer(), block=False)
        yield url, client.Client(url, verbose=False), client.handle_file
        gradio.close_all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_face_described_and_asked_about(page: Any, tmp_path: Path) -> None:
    _, client, handle = page
    photo = tmp_path / "<b>photo.png"
    Image.fromarray(astronaut()).save(photo)
    html, typed = client.predict(handle(str(photo)), False, api_name="/analyze")
    assert typed["faces"] == analyzer().analyze(astronaut()).to_dict()["faces"]
    assert "displayed expression" in html
    assert "data:image/jpeg;base64," in html
    _, moved = client.predict(handle(str(photo)), True, api_name="/analyze")
    assert list(moved["faces"][0]["tasks"]) == ["action_units"]
    answer = client.predict(handle(str(photo)), "Is this person smiling?", api_name="/ask")
    assert answer == analyzer().ask(astronaut(), "Is this person smiling?")
    words = tmp_path / "words.txt"
    words.write_text("no picture")
    with pytest.raises(Exception, match="neither a picture nor a video"):
        client.predict(handle(str(words)), False, api_name="/analyze")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_is_for_this_machine_and_tells_nobody(page: Any) -> None:
    import gradio
    import httpx2 as httpx

    url, _, _ = page
    assert re.fullmatch(rf"http://{re.escape(HOST)}:\d+/", url)
    port = int(url.rsplit(":", 1)[1].strip("/"))
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {HOST}:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, port)) != 0 or address.startswith("127.")
    config = httpx.get(url + "config", trust_env=False).json()
    assert config["analytics_enabled"] is False
    assert not config.get("share_url")
    assert TEXT in [part["props"].get("value") for part in config["components"]]
    assert not gradio.analytics.analytics_enabled()
    text = httpx.get(url, trust_env=False).text
    assert "fonts.googleapis.com" not in text
    print("\nthe page names", sorted(set(re.findall(r"(?:src|href)=\"(https?://[^/\"]+)", text))))
