"""The page in a real browser: headless Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from server_world import Running, picture, video

SECONDS = 60_000
"""For one step of the page, in milliseconds: other work may share the machine."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser whose camera is a test picture. Skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright for Python (extra dev)")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("needs Chromium on the PATH (Debian: apt-get install chromium)")
    with api.sync_playwright() as driver:
        camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", *camera])
        yield browser
        browser.close()


class Visit:
    """One visit of a server's page, and what the browser asked for and complained about meanwhile."""

    def __init__(self, browser: Any, running: Running, **options: Any) -> None:
        self.running = running
        self.context = browser.new_context(accept_downloads=True, **options)
        self.context.set_default_timeout(SECONDS)
        self.page = self.context.new_page()
        self.requests: list[Any] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._heard(message))

    def _heard(self, message: Any) -> None:
        # the browser itself reports every status of 400 and above, which the page expects and tells in words
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def open(self) -> Any:
        """The page, once it has greeted the server."""
        self.page.goto(self.running.url)
        self.page.wait_for_selector("body[data-ready]")
        return self.page

    def give(self, data: bytes, name: str, kind: str) -> Any:
        """The page with a file on its way, after consent."""
        page = self.open()
        page.check("#consent")
        self.choose(data, name, kind)
        return page

    def choose(self, data: bytes, name: str, kind: str) -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})

    def photo(self, data: bytes | None = None) -> Any:
        """The page with a photo that was analysed and described."""
        page = self.give(data or picture(), "me.png", "image/png")
        page.wait_for_selector("button.why")
        return page

    def sent(self) -> list[Any]:
        """Requests that carried something."""
        return [request for request in self.requests if request.method != "GET"]

    def elsewhere(self) -> list[str]:
        """Addresses that are not the server's; what starts with blob: is the browser's own memory."""
        return [r.url for r in self.requests if not r.url.startswith((self.running.url, "blob:", "data:"))]

    def end(self) -> None:
        self.context.close()
        assert not self.elsewhere()
        assert not self.complaints


@contextmanager
def visiting(browser: Any, running: Running, **options: Any) -> Iterator[Visit]:
    visit = Visit(browser, running, **options)
    try:
        yield visit
    finally:
        visit.context.close()
    visit.end()


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds; Playwright's own way would need ``eval``, which the page's policy forbids."""
    end = time.monotonic() + SECONDS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"it did not come to pass: {expression}"
        page.wait_for_timeout(50)


def moving() -> bytes:
    """The portrait, moving a little, in a form that every Chromium plays."""
    return video(frames=10, form="webm", codec="libvpx", step=2)
