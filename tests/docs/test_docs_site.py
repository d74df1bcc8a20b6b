"""The site: builds without a warning, every link and anchor in it leads somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs_blocks import ROOT, pages

pytestmark = pytest.mark.slow

LOADING = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
"""Attributes whose address a browser fetches by itself."""
LOADING_RELATIONS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch"}


class Page(HTMLParser):
    """What a built page has: ids, links to follow, addresses that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag in LOADING and LOADING[tag] in given:
            self.loads.append(given[LOADING[tag]])
        if tag == "link" and LOADING_RELATIONS & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_every_page_is_in_it(site: Path) -> None:
    for page in pages():
        if page.startswith("docs/"):
            assert (site / Path(page).relative_to("docs").with_suffix(".html")).is_file(), page
    for name in ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"):
        assert (site / f"{name}.html").is_file()


def test_links_and_anchors_lead_somewhere(site: Path, built: dict[Path, Page]) -> None:
    broken = []
    for path, page in built.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            found = target.is_file() and (
                not parts.fragment or target not in built or _has(built[target], parts.fragment)
            )
            if not found:
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def _has(page: Page, fragment: str) -> bool:
    return unquote(fragment) in page.ids or fragment == "__top"


def test_pages_load_nothing_from_elsewhere(site: Path, built: dict[Path, Page]) -> None:
    outside = [f"{path.name}: {url}" for path, page in built.items() for url in page.loads if urlsplit(url).netloc]
    assert not outside
    for path in site.rglob("*.css"):
        sheet = path.read_text(encoding="utf-8")
        assert not re.findall(r"(?:@import\s+|url\()['\"]?(?:https?:)?//", sheet), path.name


def test_lists_and_tables_become_lists_and_tables(site: Path) -> None:
    """Markdown that a code host reads as a list or a table and the site does not would show its marks."""
    for path in site.glob("*.html"):
        body = path.read_text(encoding="utf-8").split("<article", 1)[-1].split("</article>")[0]
        prose = re.sub(r"<(pre|code)\b.*?</\1>", "", body, flags=re.DOTALL)
        assert not re.search(r"(?:<p>|^)(?:- |\* |\|.*\|$|```)", prose, re.MULTILINE), path.name


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_browser_asks_nobody_else(served: str, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs Chromium")
    log = tmp_path / "net.json"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
    options += ["--no-first-run", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [
        browser,
        *options,
        f"--log-net-log={log}",
        "--virtual-time-budget=8000",
        "--dump-dom",
        served + "/index.html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert "facellava" in done.stdout
    asked = set(re.findall(r'"url":"(https?://[^"]+)"', log.read_text(encoding="utf-8")))
    assert any("assets/javascripts" in url for url in asked)
    assert not {url for url in asked if not url.startswith(served) and not _browsers_own(url)}


def _browsers_own(url: str) -> bool:
    """Chromium asks its maker on its own account; a page would ask a code host, a font server or a CDN."""
    host = urlsplit(url).hostname or ""
    return host.endswith((".google.com", ".gvt1.com", ".googleapis.com")) and not host.startswith("fonts.")


def test_the_pages_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any("manipulation" in entry["text"] for entry in index["docs"])
