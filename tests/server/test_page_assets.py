"""The page's files, without a browser: all there, cached as they should be, and asking nobody else for anything."""

from __future__ import annotations

import json
import re
from html import escape
from importlib import resources

import pytest
from server_world import KEY, Running, error_of, serving

from facellava import tasks
from facellava.analyzer import Analyzer
from facellava.notice import TEXT
from facellava.server.webpage import Page

FOLDER = resources.files("facellava.server") / "page"
SOURCES = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.iterdir()}


def assets(html: str) -> list[str]:
    return re.findall(r'(?:href|src)="(page/[^"]+)"', html)


def test_the_page_and_its_files(usual: Running) -> None:
    response = usual.http.get("/")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert escape(TEXT) in response.text
    assert "{{" not in response.text
    paths = assets(response.text)
    assert {path.rpartition("/")[2] for path in paths} == {"icon.svg", "style.css", "app.js"}
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "json": "application/json"}
    folder = paths[0].rpartition("/")[0]
    for name in {*SOURCES, "words.json"} - {"index.html"}:
        found = usual.http.get(f"/{folder}/{name}")
        assert found.status_code == 200
        assert found.headers["content-type"] == f"{kinds[name.rpartition('.')[2]]}; charset=utf-8"
        assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
        if name in SOURCES:
            assert found.text == SOURCES[name]


def test_a_strict_policy(usual: Running) -> None:
    for path in ("/", f"/page/{Page.load().version}/app.js"):
        headers = usual.http.get(path).headers
        rules = dict(rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";"))
        assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
        assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
        assert headers["permissions-policy"].startswith("camera=(self), microphone=()")
        assert (headers["referrer-policy"], headers["x-content-type-options"]) == ("no-referrer", "nosniff")


def test_the_page_is_asked_for_again_and_sent_once(usual: Running) -> None:
    first = usual.http.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = usual.http.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert usual.http.get("/", headers={"if-none-match": '"another"'}).status_code == 200
    assert usual.http.get("/healthz").headers["cache-control"] == "no-store"


def test_other_versions_and_names_are_not_there(usual: Running) -> None:
    version = Page.load().version
    for path in (f"/page/{version}/index.html", f"/page/{version}/..%2Fapp.py", "/page/0/app.js"):
        response = usual.http.get(path)
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")
    assert 'facellava_requests_total{route="/page/{id}",status="404"}' in usual.http.get("/metrics").text


def test_the_page_needs_no_key_and_gives_nothing_away(model: Analyzer) -> None:
    with serving(model, api_key=KEY) as running:
        del running.http.headers["authorization"]
        assert running.http.get("/").status_code == 200
        assert running.http.get(f"/page/{Page.load().version}/app.js").status_code == 200
        assert running.http.get("/v1/models").status_code == 401


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_nothing_comes_from_elsewhere(name: str) -> None:
    addresses = set(re.findall(r"(?:https?:)?//[a-z][\w.-]*\.[a-z]{2,}", SOURCES[name]))
    assert addresses <= {"http://www.w3.org"}  # the name of SVG's elements, which nothing is fetched from
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style|javascript:", SOURCES[name])
    if name.endswith(".js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", SOURCES[name]
        )
        for target in re.findall(r'^import .* from "(.*)";$', SOURCES[name], re.MULTILINE):
            assert target.removeprefix("./") in SOURCES


def test_every_id_that_is_looked_for_is_there() -> None:
    there = set(re.findall(r'\bid="([^"]+)"', SOURCES["index.html"]))
    wanted = {found for text in SOURCES.values() for found in re.findall(r'byId\("([^"]+)"\)', text)}
    assert wanted <= there
    labels = set(re.findall(r'\b(?:for|aria-labelledby)="([^"]+)"', SOURCES["index.html"]))
    assert labels <= there


def test_words_are_those_of_the_tasks() -> None:
    words = json.loads(Page.load().files["words.json"])
    assert words["notice"] == TEXT
    units = tasks.get("action_units")
    assert list(words["tasks"]) == list(tasks.all_tasks())
    for name in units.names:
        label = units.label(name)
        assert words["tasks"]["action_units"]["labels"][name]["regions"] == list(label.regions)
        assert words["tasks"]["action_units"]["labels"][name]["text"] == label.text


PAIRS = ("ink surface", "ink ground", "soft surface", "soft ground", "soft sunk", "accent surface", "accent ground")
PAIRS += ("accent sunk", "on-accent accent", "bad bad-tint", "warm surface")


def luminance(colour: str) -> float:
    """Of ``#rgb`` or ``#rrggbb`` (WCAG 2, relative luminance)."""
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * digit for digit in digits)
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("pair", PAIRS)
def test_colours_can_be_read_in_light_and_dark(pair: str) -> None:
    schemes = re.findall(r":root \{(.*?)\}", SOURCES["style.css"], re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", scheme))
        dark, light = sorted(luminance(colours[name]) for name in pair.split())
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, level AA
