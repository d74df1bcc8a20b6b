"""Clients against a real server that fails in every way we know."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fault_server import FaultServer, text_of

from facellava.errors import BudgetExceeded, ConsentNeeded, ProviderFailed, UsageError
from facellava.llm import (
    Attachment,
    Budget,
    CallCache,
    ChatReply,
    ChatRequest,
    Prices,
    ProviderConfig,
    connect,
    estimate,
    require_consent,
)
from facellava.llm.budget import expected_input
from facellava.llm.jobs import Job, Jobs
from facellava.llm.retry import retry_after
from facellava.llm.throttle import Throttle

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PICTURE = Attachment(b"\xff\xd8\xff\xe0 not really", "image/jpeg")


def ask(text: str, **more) -> ChatRequest:
    return ChatRequest("m-1", text, (PICTURE,), **more)


def config(server: FaultServer, provider: str = "openai", **more) -> ProviderConfig:
    url = server.url if provider == "openai" else server.root
    given = {"timeout_s": 1.0, "first_wait": 0.02, "max_retries": 3, **more}
    return ProviderConfig(provider, url, **given)  # type: ignore[arg-type]


def shout(body: dict) -> str:
    return text_of(body).upper()


@pytest.fixture(params=["openai", "gemini"])
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


def first(fault: str):
    """The fault at a request's first coming."""
    return lambda seen, _body: fault if seen == 0 else ""


def test_answer_and_its_cost(provider: str) -> None:
    with FaultServer(shout) as server:
        client = connect(config(server, provider))
        reply = client.complete(ask("hello"))
    assert (reply.text, reply.finish) == ("HELLO", "stop")
    assert (reply.input_tokens, reply.output_tokens) == (5, 5)
    assert client.local and client.name == "127.0.0.1"


@pytest.mark.parametrize("fault", ["429", "500", "503", "hang", "cut", "not-json", "other-form"])
def test_what_passes_is_asked_again(provider: str, fault: str) -> None:
    if provider == "gemini" and fault == "other-form":
        pytest.skip("an empty list of candidates is how Gemini refuses")
    with FaultServer(shout, first(fault), hang=1.6) as server:
        client = connect(config(server, provider))
        assert client.complete(ask("x")).text == "X"
    assert (client.stats.calls, client.stats.retries) == (2, 1)
    assert len(server.served) == 1


@pytest.mark.parametrize("fault", ["400", "401"])
def test_what_does_not_pass_is_told_at_once_and_without_the_key(
    provider: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-very-secret")
    with FaultServer(shout, lambda _seen, _body: fault) as server:
        client = connect(config(server, provider, key_env="THE_KEY"))
        with pytest.raises(ProviderFailed, match=rf"127.0.0.1: status {fault} .*failing on purpose") as caught:
            client.complete(ask("x"))
    assert "secret" not in str(caught.value)
    assert client.stats.calls == 1


def test_last_retry_gives_up_with_the_reason(provider: str) -> None:
    with FaultServer(shout, lambda _seen, _body: "503") as server:
        client = connect(config(server, provider))
        with pytest.raises(ProviderFailed, match=r"status 503 .*after 4 tries"):
            client.complete(ask("x"))


@pytest.mark.parametrize("fault", ["429", "429-date"])
def test_the_services_own_pause_is_kept_by_all_threads(fault: str) -> None:
    pause = 0.5 if fault == "429" else 2.0  # dates have whole seconds
    with FaultServer(shout, lambda seen, body: fault if seen == 0 and text_of(body) == "a" else "") as server:
        server.retry_after = pause
        client = connect(config(server))
        start = time.monotonic()
        assert client.complete(ask("a")).text == "A"
        assert time.monotonic() - start >= pause - 1.0 * (fault == "429-date")
    throttle = Throttle()
    throttle.hold(0.3)
    start = time.monotonic()
    throttle.wait(1)
    assert time.monotonic() - start >= 0.29


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({"retry-after": "0.5"}, 0.5), ({}, None), ({"Retry-After": "soon"}, None)],
)
def test_retry_after_header(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_refusals_are_answers(provider: str) -> None:
    with FaultServer(shout, lambda _seen, _body: "refusal") as server:
        assert connect(config(server, provider)).complete(ask("x")).finish == "refused"


def test_service_without_json_mode() -> None:
    with FaultServer(shout, lambda _seen, _body: "no-json-mode") as server:
        client = connect(config(server))
        assert client.complete(ask("x")).text == "X"
        assert client.complete(ask("y")).text == "Y"
    assert server.faults["no-json-mode"] == 3  # refused once, then asked without it


def test_missing_key_and_address_are_told_before_any_call() -> None:
    with pytest.raises(UsageError, match="NO_SUCH_KEY is not set"):
        connect(ProviderConfig("openai", "http://127.0.0.1:1/v1", key_env="NO_SUCH_KEY"))
    with pytest.raises(UsageError, match="needs a base_url"):
        connect(ProviderConfig("openai"))


def test_consent_is_asked_for_whatever_leaves_the_machine() -> None:
    away = connect(ProviderConfig("openai", "https://api.example.com/v1"))
    with pytest.raises(ConsentNeeded, match=r"--send-media-to api\.example\.com"):
        require_consent(away, ["other.example.com"])
    require_consent(away, ["api.example.com"])
    require_consent(connect(ProviderConfig("openai", "http://localhost:1/v1")), [])


def test_same_question_is_paid_once(tmp_path: Path, provider: str) -> None:
    with FaultServer(shout) as server:
        one = connect(config(server, provider), CallCache(tmp_path))
        first_reply = one.complete(ask("x"))
        assert one.complete(ask("x")) == first_reply
        again = connect(config(server, provider), CallCache(tmp_path))
        assert again.complete(ask("x")) == first_reply
        assert again.complete(ask("x", attempt=1)).text == "X"
        assert len(server.served) == 2
    assert (again.stats.cached, again.stats.calls) == (1, 1)


def test_every_field_makes_another_question() -> None:
    base = ask("x", seed=1)
    changed = {
        "model": "m-2",
        "text": "y",
        "attachments": (Attachment(b"other", "image/jpeg"),),
        "system": "s",
        "json": False,
        "max_tokens": 1,
        "temperature": 0.5,
        "seed": 2,
        "attempt": 1,
    }
    assert set(changed) == {field.name for field in dataclasses.fields(ChatRequest)}
    keys = {dataclasses.replace(base, **{name: value}).key for name, value in changed.items()}
    assert len(keys | {base.key}) == 10


WRITER = """
import sys
from pathlib import Path
from facellava.llm import CallCache, ChatReply, ChatRequest
cache = CallCache(Path(sys.argv[1]))
for n in range(10**9):
    cache.put("s", ChatRequest("m", str(n)), ChatReply("answer " + str(n), "m", n, n))
    print(n, flush=True)
"""


def test_no_paid_answer_is_lost_by_sigkill(tmp_path: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        with writer.stdout:
            paid = [int(next(writer.stdout)) for _ in range(40)]
            os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        cache = CallCache(tmp_path)
        for n in paid:
            assert cache.get("s", ChatRequest("m", str(n))) == ChatReply(f"answer {n}", "m", n, n)
    torn = next(tmp_path.glob("*.jsonl"))
    torn.write_bytes(torn.read_bytes() + b'{"key": "s torn", "rep')
    assert len(CallCache(tmp_path)) >= 40


def test_budget_is_exact_under_threads() -> None:
    request, prices = ask("x" * 300, max_tokens=100), Prices(1.0, 2.0)
    most = expected_input(request) + 100
    budget, start = Budget(tokens=10 * most), threading.Barrier(16)

    def spend(_: int) -> bool:
        start.wait()
        try:
            held = budget.reserve(request, prices)
        except BudgetExceeded:
            return False
        time.sleep(0.01)
        budget.settle(held, ChatReply("", "m", most - 100, 100), prices)
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(spend, range(16))) == 10
    assert budget.tokens == 10 * most
    assert budget.money == pytest.approx(10 * ((most - 100) * 1.0 + 100 * 2.0) / 1e6)


def test_budget_ends_the_calls_and_what_failed_costs_nothing() -> None:
    request = ask("x", max_tokens=10)
    most = expected_input(request) + 10
    with FaultServer(shout, lambda _seen, body: "400" if text_of(body) == "bad" else "") as server:
        client = connect(config(server), budget=Budget(tokens=most + 2))
        with pytest.raises(ProviderFailed):
            client.complete(dataclasses.replace(request, text="bad"))
        assert client.complete(request).text == "X"  # costs 2
        assert client.complete(dataclasses.replace(request, text="y")).text == "Y"
        with pytest.raises(BudgetExceeded, match=r"4 of .* tokens are spent"):
            client.complete(dataclasses.replace(request, text="z"))
        assert len(server.served) == 2


def test_estimate_adds_up() -> None:
    request = ask("x" * 300, max_tokens=100)
    found = estimate(1000, request, Prices(1.0, 4.0), answer_tokens=200, requests_per_minute=500)
    assert found.input_tokens == 1000 * (100 + 800)
    assert found.output_tokens == 200_000
    assert found.money == pytest.approx(0.9 + 0.8)
    assert found.hours == pytest.approx(2 / 60)


def test_requests_per_minute_are_kept() -> None:
    with FaultServer(shout) as server:
        client = connect(config(server, requests_per_minute=1200))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: client.complete(ask(str(n))), range(8)))
        times = sorted(t for t, _ in server.served)
    assert times[-1] - times[0] >= 7 * 0.05 * 0.9


# --- batches ---


def test_batch_answers_everything_once_and_names_failures(tmp_path: Path) -> None:
    texts = ["a", "b", "bad", "c"]
    with FaultServer(shout, lambda _seen, body: "500" if text_of(body) == "bad" else "") as server:
        client = connect(config(server), CallCache(tmp_path))
        client.complete(ask("b"))
        found = {request.text: reply for request, reply in client.complete_batch(map(ask, texts))}
        assert isinstance(found.pop("bad"), ProviderFailed)
        assert {text: reply.text for text, reply in found.items()} == {"a": "A", "b": "B", "c": "C"}
        assert len(server.served) == 3, "b was known"
        fresh = connect(config(server), CallCache(tmp_path))
        assert fresh.complete(ask("c")).text == "C"
        assert fresh.stats.calls == 0


def test_gemini_batch(tmp_path: Path) -> None:
    with FaultServer(shout) as server:
        client = connect(config(server, "gemini"), CallCache(tmp_path))
        found = {request.text: reply.text for request, reply in client.complete_batch(map(ask, "abc"))}
    assert found == {"a": "A", "b": "B", "c": "C"}


@pytest.mark.parametrize("service", ["openai", "gemini"])
@pytest.mark.parametrize("noted", [True, False])
def test_restart_waits_for_the_batch_that_was_started(tmp_path: Path, service: str, noted: bool) -> None:
    """A process that dies after the start leaves its job behind, noted or not; the next one reads its answers."""
    with FaultServer(shout) as server:
        given = config(server, service, jobs=tmp_path / "jobs.json")
        asked = [ask("a"), ask("b")]
        first = connect(given, CallCache(tmp_path / "lost"))
        assert dict(first.complete_batch(asked))[asked[0]].text == "A"
        name = next(iter(server.batches)).removeprefix("" if service == "gemini" else "batches/")
        if noted:
            Jobs(given.jobs).put(Job(first.name, name, tuple(request.key for request in asked)))
        # as if killed before any answer was kept: the cache and, if not noted, the job's name are gone
        again = connect(given, CallCache(tmp_path / "empty"))
        found = {request.text: reply.text for request, reply in again.complete_batch(asked)}
    assert found == {"a": "A", "b": "B"}
    assert len(server.batches) == 1, "paid once"
    assert json.loads((tmp_path / "jobs.json").read_text()) == []
