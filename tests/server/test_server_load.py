"""Many clients at once, and requests that nobody would write: the server stays up and says what is wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_world import Running, blank, chat, events, picture_url, serving, warm

from facellava.analyzer import Analyzer

pytestmark = pytest.mark.slow

CLIENTS = 200


def test_two_hundred_clients(model: Analyzer) -> None:
    with serving(model, queue=64, seconds=300.0) as running:
        warm(running, model)

        def one(number: int) -> tuple[int, float]:
            start, stream = time.monotonic(), bool(number % 2)
            with httpx.Client(base_url=running.url, timeout=300, trust_env=False) as http:
                for attempt in range(200):
                    body = chat(f"Question {number}?", stream=stream, max_tokens=8)
                    response = http.post("/v1/chat/completions", json=body)
                    if response.status_code == 200:
                        assert not stream or events(response)[-1] == "[DONE]"
                        return attempt, time.monotonic() - start
                    assert response.status_code == 503
                    time.sleep(min(2.0, float(response.headers["retry-after"])))
            raise AssertionError("refused for ever")

        start = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            done = list(pool.map(one, range(CLIENTS)))
        took = time.monotonic() - start
        refused = running.measure("facellava_requests_total", route="/v1/chat/completions", status="503")
        answered = running.measure("facellava_requests_total", route="/v1/chat/completions", status="200")
        assert (answered, refused) == (CLIENTS, sum(attempts for attempts, _ in done))
        assert running.service.queue.idle
        times = sorted(seconds for _, seconds in done)
        print(f"\n{CLIENTS} clients in {took:.1f} s, {refused:.0f} x 503")
        print(f"median {times[100]:.1f} s, p95 {times[190]:.1f} s")


texts = st.text(max_size=12)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
FIELDS: dict[str, Any] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "seed": st.integers(-(2**63), 2**63 - 1),
    "stop": texts | st.lists(texts, max_size=4),
    "max_tokens": st.integers(1, 12),
    "stream": st.booleans(),
    "face": st.integers(0, 2),
    "response_format": st.sampled_from(["text", "json_object"]).map(lambda kind: {"type": kind}),
    "user": texts,
}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(question=st.text(max_size=40), fields=st.fixed_dictionaries({}, optional=FIELDS))
def test_whatever_may_be_asked(usual: Running, question: str, fields: dict[str, Any]) -> None:
    response = usual.http.post("/v1/chat/completions", json=chat(question, **fields))
    assert response.status_code in (200, 400), response.text


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.dictionaries(st.sampled_from([*FIELDS, "model", "messages", "tools", "n"]), anything, max_size=3))
def test_whatever_makes_no_sense(usual: Running, changes: dict[str, Any]) -> None:
    response = usual.http.post("/v1/chat/completions", json=chat(max_tokens=3) | changes)
    assert response.status_code in (200, 400, 404), response.text


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(schema=anything)
def test_whatever_schema(usual: Running, schema: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    response = usual.http.post("/v1/chat/completions", json=chat(max_tokens=3, response_format=wanted))
    assert response.status_code in (200, 400), response.text


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(options=st.lists(texts, min_size=2, max_size=5), prefix=texts, question=texts)
def test_whatever_options(usual: Running, options: list[str], prefix: str, question: str) -> None:
    body = {"media": picture_url(), "options": options, "prefix": prefix, "question": question}
    response = usual.http.post("/v1/score", json=body)
    assert response.status_code in (200, 400), response.text
    if response.status_code == 200:
        assert sum(row["probability"] for row in response.json()["options"]) == pytest.approx(1, abs=1e-3)


def test_the_interface_as_it_describes_itself(usual: Running, tmp_path: Path) -> None:
    """Schemathesis makes requests of the OpenAPI description: none meets an error of the server."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.is_file():
        pytest.skip("needs schemathesis")
    usual.http.post("/v1/files", files={"file": ("a.png", blank())})
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    options = ["--checks", checks, "--max-examples", "60", "--seed", "1", "--phases", "examples,coverage,fuzzing"]
    done = subprocess.run(
        [str(program), "run", f"{usual.url}/openapi.json", *options, "--continue-on-failure", "--no-color"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=280,
        check=False,
    )
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout
