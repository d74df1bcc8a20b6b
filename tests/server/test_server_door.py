"""What is turned away before the model hears of it: strangers, foreign pages, too much, too slow, too deep."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from server_world import (
    KEY,
    Running,
    blank,
    chat,
    data_url,
    error_of,
    head,
    picture,
    picture_url,
    png,
    raw,
    serving,
    video,
)

from facellava.analyzer import Analyzer
from facellava.server.bodies import check_json
from facellava.server.problems import Problem
from facellava.server.settings import Bounds


@pytest.fixture(scope="module")
def small(model: Analyzer) -> Iterator[Running]:
    """A server with small limits and a key."""
    bounds = {
        "body": 400_000,
        "body_seconds": 0.6,
        "bodies": 600_000,
        "header_seconds": 0.6,
        "depth": 12,
        "items": 500,
        "messages": 5,
        "texts": 400,
        "schema": 200,
        "pictures": 3,
        "pixels": 70_000,
        "video_seconds": 2.0,
        "video_frames": 14,
        "uploads": 150_000,
        "upload_count": 3,
        "upload_seconds": 1.0,
    }
    with serving(model, api_key=KEY, bounds=bounds, origins=("https://friend.example",)) as running:
        yield running


# --- who ---


@pytest.mark.parametrize("value", [None, "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xe9"])
def test_a_key_is_needed(small: Running, value: str | None) -> None:
    headers = [] if value is None else [f"authorization: {value}"]
    for path in ("/v1/models", "/metrics", "/v1/nothing"):
        answer = raw(small, head(path, *headers, "connection: close", method="GET").decode().encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 401")
        assert b"www-authenticate: Bearer" in answer
        assert b'"invalid_api_key"' in answer


def test_what_needs_no_key(small: Running) -> None:
    for path in ("/healthz", "/docs", "/openapi.json"):
        assert raw(small, head(path, "connection: close", method="GET")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_another_host_name_is_dns_rebinding(usual: Running, host: str) -> None:
    response = usual.http.get("/v1/models", headers={"host": host})
    assert (response.status_code, error_of(response)["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
def test_own_names_pass(usual: Running, host: str) -> None:
    assert usual.http.get("/v1/models", headers={"host": host}).status_code == 200


def test_a_name_that_was_given_passes(model: Analyzer) -> None:
    with serving(model, names=("faces.example",)) as running:
        assert running.http.get("/v1/models", headers={"host": "faces.example"}).status_code == 200


def test_pages_of_other_sites_are_refused(usual: Running, small: Running) -> None:
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        response = usual.http.post("/v1/files", headers={"origin": origin}, files={"file": ("a", picture())})
        assert (response.status_code, error_of(response)["code"]) == (403, "foreign_origin")
        assert "access-control-allow-origin" not in response.headers
    own = usual.http.get("/v1/models", headers={"origin": usual.url})
    assert own.status_code == 200
    preflight = {"origin": "https://friend.example", "access-control-request-method": "POST"}
    assert usual.http.options("/v1/models", headers=preflight).status_code == 403
    allowed = small.http.options("/v1/models", headers=preflight)
    assert allowed.headers["access-control-allow-origin"] == "https://friend.example"
    assert small.http.get("/v1/models", headers={"origin": "https://friend.example"}).status_code == 200


# --- how much ---


def test_a_body_that_says_it_is_too_large(small: Running) -> None:
    start = time.monotonic()
    authorised = f"authorization: Bearer {KEY}"
    answer = raw(small, head("/v1/analyze", authorised, "content-length: 999999999"), b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"body_too_large"' in answer
    assert time.monotonic() - start < 10


def test_a_body_that_does_not_say_so(small: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 20_000

    response = small.http.post("/v1/analyze", content=endless(), headers={"content-type": "application/json"})
    assert (response.status_code, error_of(response)["code"]) == (413, "body_too_large")


def test_a_client_hears_of_a_refusal_while_it_sends(small: Running) -> None:
    response = small.http.post("/v1/files", files={"file": ("big.png", b"\x89PNG\r\n\x1a\n" + b"x" * 5_000_000)})
    assert response.status_code == 413


def test_bodies_of_all_requests_together(small: Running) -> None:
    authorised = f"authorization: Bearer {KEY}"
    begun = head("/v1/files", authorised, "content-type: x/y", "content-length: 390000") + b"x" * 380_000
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: raw(small, begun), range(4)))
    states = sorted(answer.split()[1] for answer in answers)
    assert set(states) == {b"408", b"503"}
    assert any(b'"memory_full"' in answer and b"retry-after" in answer for answer in answers)
    assert small.http.post("/v1/files", files={"file": ("a.png", blank())}).status_code == 200  # given back


def test_a_slow_body(small: Running) -> None:
    authorised = f"authorization: Bearer {KEY}"
    answer = raw(small, head("/v1/files", authorised, "content-length: 50"), b"x", b"y", pause=0.4)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"slow_body"' in answer


@pytest.mark.parametrize("begun", [b"", b"GET /v1/mod", b"GET /healthz HTTP/1.1\r\nhost: local"])
def test_a_slow_head_is_cut_off(small: Running, begun: bytes) -> None:
    start = time.monotonic()
    assert raw(small, begun) == b""
    assert time.monotonic() - start < 10


def test_many_connections(model: Analyzer) -> None:
    with serving(model, bounds={"connections": 3, "header_seconds": 1.0}) as running:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: raw(running, b""), range(8)))
        assert any(answer.startswith(b"HTTP/1.1 503") and b"retry-after" in answer for answer in answers)
        assert b"" in answers
        assert running.http.get("/healthz").status_code == 200


def test_deep_and_endless_json(small: Running) -> None:
    deep = chat() | {"response_format": {"type": "json_schema", "json_schema": {"schema": nested(14)}}}
    response = small.http.post("/v1/chat/completions", json=deep)
    assert (response.status_code, error_of(response)["code"]) == (400, "json_too_deep")
    response = small.http.post("/v1/chat/completions", json={"messages": [[]] * 300})
    assert (response.status_code, error_of(response)["code"]) == (400, "json_too_large")


def test_json_under_two_types(usual: Running) -> None:
    lines = (
        "content-type: application/json",
        "content-type: text/plain",
        "content-length: 100000",
        "connection: close",
    )
    assert b'"json_too_deep"' in raw(usual, head("/v1/score", *lines) + b"[" * 100_000)


def nested(levels: int) -> dict:
    return {"properties": {"a": nested(levels - 1)}} if levels else {}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"a": "[[[[[[[[[[[[[["}', None),
        (rb'{"a": "\"[[[[[[[[[[[["}', None),
        (rb'{"a": "\\"}', None),
        (rb'{"a": "\\", "b": [[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}', "json_too_deep"),
        (b"[" * 100_000, "json_too_deep"),
        (b'["' + rb"\"" * 5000 + b'"]', "json_too_large"),
        (b"[]," * 5000, "json_too_large"),
        (b"[" + b" " * 200_000 + b"]", "json_too_large"),
        (b"[1" + b"0" * 60_000 + b"]", None),
        (b'{"a": "\xff"}', "bad_json"),
        ('{"a": 1}'.encode("utf-16"), "bad_json"),
        (b"", None),
    ],
)
def test_json_is_counted_before_it_is_read(body: bytes, code: str | None) -> None:
    bounds = Bounds(depth=16, items=1000)
    if code is None:
        check_json(body, bounds)
        return
    with pytest.raises(Problem) as caught:
        check_json(body, bounds)
    assert caught.value.code == code


def test_json_that_is_large_is_checked_in_no_time() -> None:
    body = json.dumps({"a": "x" * 50_000_000}).encode()
    start = time.monotonic()
    check_json(body, Bounds())
    assert time.monotonic() - start < 5


HALF = b'{"messages": [{"role": "user", "content": "What \\ud800?"}]}'  # half a surrogate pair
HALF_PART = b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "What \\ud800?"}]}]}'


@pytest.mark.parametrize("body", [b"{", b"[1", b"nothing", b'{"model": NaN}', HALF, HALF_PART, b"null"])
def test_what_is_no_json(usual: Running, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/score", "/v1/analyze"):
        response = usual.http.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code == 400
        assert error_of(response)["type"] == "invalid_request_error"


# --- what ---


def test_long_conversations(small: Running) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 3
    response = small.http.post("/v1/chat/completions", json=chat() | {"messages": [*turns, *chat()["messages"]]})
    assert (response.status_code, error_of(response)["code"]) == (400, "too_many_messages")
    response = small.ask("word " * 100)
    assert (response.status_code, error_of(response)["code"]) == (400, "too_long")


def test_large_schemas(small: Running) -> None:
    schema = {"type": "object", "properties": {f"name{n}": {"type": "string"} for n in range(20)}}
    response = small.ask(response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    assert (response.status_code, error_of(response)["code"]) == (400, "schema_too_large")


def test_many_pictures(small: Running) -> None:
    pictures = [{"type": "image_url", "image_url": {"url": data_url(blank() + bytes([n]))}} for n in range(5)]
    message = {"role": "user", "content": [*pictures, {"type": "text", "text": "What?"}]}
    response = small.http.post("/v1/chat/completions", json={"messages": [message]})
    assert (response.status_code, error_of(response)["code"]) == (400, "too_many_pictures")


def test_many_pixels(small: Running) -> None:
    large = png(np.zeros((400, 400, 3), np.uint8))
    response = small.http.post("/v1/analyze", json={"media": data_url(large)})
    assert (response.status_code, error_of(response)["code"]) == (413, "media_too_large")


@pytest.mark.parametrize(("frames", "rate"), [(12, 4), (15, 30)])
def test_long_videos(small: Running, frames: int, rate: int) -> None:
    response = small.http.post("/v1/analyze", files={"file": ("a.mp4", video(frames, rate))})
    assert (response.status_code, error_of(response)["code"]) == (413, "media_too_large")


ADDRESSES = {
    "http://example.org/a.png": "address_refused",
    "https://example.org/a.png": "address_refused",
    "https://127.0.0.1/a.png": "address_refused",
    "file:///etc/passwd": "address_refused",
    "FILE:///etc/passwd": "address_refused",
    "/etc/passwd": "address_refused",
    "../../etc/passwd": "address_refused",
    "ftp://example.org/a.png": "address_refused",
    "https://[::1/": "address_refused",
    "data:image/png;base64,": "empty_file",
    "data:image/png;base64,AAA": "bad_data_url",
    "data:image/png;base64,A A=": "bad_data_url",
    "data:image/png,abc": "bad_data_url",
    "data:": "bad_data_url",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_are_refused(usual: Running, address: str) -> None:
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": address}}]}
    message["content"].append({"type": "text", "text": "What?"})
    response = usual.http.post("/v1/chat/completions", json={"messages": [message]})
    assert (response.status_code, error_of(response)["code"]) == (400, ADDRESSES[address])
    for path, body in (("/v1/analyze", {}), ("/v1/score", {"question": "?", "options": ["a", "b"]})):
        response = usual.http.post(path, json={"media": address, **body})
        assert (response.status_code, error_of(response)["code"]) == (400, ADDRESSES[address])


def test_a_file_that_is_not_there(usual: Running) -> None:
    response = usual.http.post("/v1/analyze", json={"media": "file-0123"})
    assert (response.status_code, error_of(response)["code"]) == (404, "file_not_found")


MEDIA = {
    "words": (b"Once upon a time", 415, "unsupported_media"),
    "half a picture": (picture, 400, "damaged_media"),
    "no face": (blank, 422, "no_face"),
}


@pytest.mark.parametrize("case", MEDIA)
def test_media_that_cannot_be_used(usual: Running, case: str) -> None:
    make, status, code = MEDIA[case]
    data = make if isinstance(make, bytes) else make()
    if code == "damaged_media":
        data = data[: len(data) // 2]
    for response in (
        usual.http.post("/v1/analyze", json={"media": data_url(data)}),
        usual.http.post("/v1/analyze", files={"file": ("a.png", data)}),
    ):
        assert (response.status_code, error_of(response)["code"]) == (status, code)


# --- uploads ---


def test_uploads_are_limited_and_expire(small: Running) -> None:
    ids = [small.http.post("/v1/files", files={"file": ("a.png", blank())}).json() for _ in range(3)]
    full = small.http.post("/v1/files", files={"file": ("a.png", blank())})
    assert (full.status_code, error_of(full)["code"]) == (429, "uploads_full")
    assert int(full.headers["retry-after"]) >= 1
    assert all(file["expires_at"] - file["created_at"] <= 1 for file in ids)
    time.sleep(1.2)
    assert small.http.get(f"/v1/files/{ids[0]['id']}").status_code == 404
    assert small.http.post("/v1/files", files={"file": ("a.png", blank())}).status_code == 200


@pytest.mark.parametrize(
    ("files", "data", "status"),
    [
        ({"file": ("a", b"")}, {}, 400),
        ({"file": ("a", b"words")}, {}, 415),
        ({"other": ("a", b"x")}, {}, 400),
        ({"file": ("a", b"x")}, {"expires_after[seconds]": "-3"}, 400),
    ],
)
def test_uploads_that_are_refused(usual: Running, files: dict, data: dict, status: int) -> None:
    response = usual.http.post("/v1/files", files=files, data=data)
    assert response.status_code == status
    error_of(response)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/plain", b"x"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\ncontent-disposition: form-data; name="\xff"\r\n\r\nv\r\n--x--\r\n',
        ),
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\nv\r\n' * 50),
    ],
)
def test_forms_that_are_none(usual: Running, kind: str, body: bytes) -> None:
    for path in ("/v1/files", "/v1/analyze"):
        response = usual.http.post(path, content=body, headers={"content-type": kind})
        assert response.status_code in (400, 415)
        error_of(response)


def test_a_movements_server_makes_no_other_claim(model: Analyzer) -> None:
    with serving(model, mode="movements") as running:
        for path, body in (("chat/completions", chat()), ("score", SCORE | {"media": picture_url()})):
            response = running.http.post(f"/v1/{path}", json=body)
            assert (response.status_code, error_of(response)["code"]) == (403, "movements_only")
        refused = running.http.post("/v1/analyze", json={"media": picture_url(), "tasks": ["expression"]})
        assert refused.status_code == 403
        (face,) = running.http.post("/v1/analyze", json={"media": picture_url(), "explain": False}).json()["faces"]
        assert list(face["tasks"]) == ["action_units"]
        assert running.http.get("/v1/models").json()["data"][0]["tasks"] == ["action_units"]


SCORE = {"question": "Smiling?", "options": ["yes", "no"]}
