"""Any service that speaks the OpenAI chat completions interface, our own server among them."""

from __future__ import annotations

import base64
import io
import json
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from facellava.errors import MissingExtra, ProviderFailed
from facellava.files import from_json

from .address import is_local, without_key
from .batch import Answer
from .chat import ChatReply, ChatRequest
from .retry import PASSING, Missing, Transient, retry_after

FINISHED = {"completed", "failed", "expired", "cancelled"}
USABLE = {"validating", "in_progress", "finalizing", "completed"}
OPTIONAL = ("response_format", "max_tokens", "temperature", "seed")
"""Fields that some services or models reject; what they refuse once is left out from then on."""


class OpenAiClient:
    """Chat completions without retries of its own; see ``connect`` for those. Safe to share between threads.

    Redirects are not followed, and no proxy is used for a service on this machine: pictures go to the host that was
    named and to no other.

    Args:
        base_url: such as ``https://api.openai.com/v1``. key: "" where none is needed.
        timeout_s: of one call.
    """

    takes_batches = True
    most_requests = 50_000
    most_bytes = 150_000_000  # the service takes files of 200 MB

    def __init__(self, base_url: str, key: str, timeout_s: float) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("data", "asking an OpenAI-compatible service") from error
        self.name = urlsplit(base_url).hostname or base_url
        self.local = is_local(self.name)
        self.poll_seconds = 1.0 if self.local else 30.0
        self._openai, self._key = openai, key
        http = openai.DefaultHttpxClient(trust_env=not self.local, follow_redirects=False, timeout=timeout_s)
        self._client = openai.OpenAI(
            base_url=base_url, api_key=key or "none", timeout=timeout_s, max_retries=0, http_client=http
        )
        self.close = weakref.finalize(self, http.close)
        self._refused: frozenset[str] = frozenset()

    def complete(self, request: ChatRequest) -> ChatReply:
        """One call. Raises ``Transient`` for what may pass and ``ProviderFailed`` for what will not."""
        for _ in range(len(OPTIONAL) + 1):
            refused = self._refused
            with self._failures():
                try:
                    answer = self._client.chat.completions.create(**_body(request, refused))
                    return _reply(_fields(answer))
                except (self._openai.BadRequestError, self._openai.UnprocessableEntityError) as error:
                    more = {name for name in OPTIONAL if name not in refused and name in _blamed(error)}
                    if not more:
                        raise
                    self._refused |= more
        raise AssertionError("unreachable: every field is refused at most once")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """The library's errors as ours, none with the key in it."""
        openai = self._openai
        try:
            yield
        except openai.APITimeoutError as error:
            raise Transient("no answer in time") from error
        except openai.APIConnectionError as error:
            raise Transient(f"the connection failed ({type(error.__cause__ or error).__name__})") from error
        except openai.APIStatusError as error:
            message = f"status {error.status_code} {without_key(error.message, self._key)}"
            if error.status_code in PASSING:
                raise Transient(message, retry_after(error.response.headers)) from error
            kind = Missing if error.status_code in (404, 405) else ProviderFailed
            raise kind(f"{self.name}: {message}: check model, key and address") from error
        except (openai.APIResponseValidationError, ValueError) as error:
            raise Transient("an answer that is no JSON") from error

    # --- batches, see batch.py ---

    def find_job(self, label: str) -> str | None:
        """Among the latest 100 jobs; None also where the service lists none."""
        try:
            with self._failures():
                latest = self._client.batches.list(limit=100).data
        except ProviderFailed:
            return None
        mine = [b for b in latest or [] if (b.metadata or {}).get("label") == label and b.status in USABLE]
        return mine[0].id if mine else None

    def start_job(self, label: str, requests: Mapping[str, ChatRequest]) -> str:
        """Upload the requests and start."""
        data = io.BytesIO()
        for key, request in requests.items():
            body = _body(request, self._refused)
            line = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
            data.write(json.dumps(line).encode() + b"\n")
        data.seek(0)
        with self._failures():
            file = self._client.files.create(file=("batch.jsonl", data), purpose="batch")
            return self._client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"label": label},
            ).id

    def job_ended(self, name: str) -> bool:
        """Whether the job is finished, failed, expired or cancelled."""
        with self._failures():
            return self._client.batches.retrieve(name).status in FINISHED

    def read_job(self, name: str, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers, and the errors that the service gives for single requests."""
        with self._failures():
            batch = self._client.batches.retrieve(name)
            files = [file for file in (batch.output_file_id, batch.error_file_id) if file]
            texts = [self._client.files.content(file).text for file in files]
            rows = [from_json(line) for text in texts for line in text.split("\n") if line.strip()]
        return {row["custom_id"]: self._answer(row) for row in rows if row.get("custom_id") in set(keys)}

    def _answer(self, row: dict[str, Any]) -> Answer:
        response = row.get("response") or {}
        try:
            if response.get("status_code") == 200:
                return _reply(response["body"])
            reason = json.dumps(row.get("error") or response.get("body") or "no reason given")
        except Transient as failure:
            reason = str(failure)
        return ProviderFailed(f"{self.name}: {without_key(reason, self._key)}")


def _blamed(error: Any) -> str:
    """The field that a 400 or 422 names, or else its words, which name it somewhere."""
    return str(getattr(error, "param", None) or error.message)


def _body(request: ChatRequest, refused: frozenset[str]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:{a.media_type};base64,{base64.b64encode(a.data).decode()}"}}
        for a in request.attachments
    ]
    content.append({"type": "text", "text": request.text})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if request.system:
        messages.insert(0, {"role": "system", "content": request.system})
    body: dict[str, Any] = {
        "model": request.model,
        "messages": messages,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.json:
        body["response_format"] = {"type": "json_object"}
    if request.seed is not None:
        body["seed"] = request.seed
    if "max_tokens" in refused:  # the newer name of the same limit
        body["max_completion_tokens"] = request.max_tokens
    return {name: value for name, value in body.items() if name not in refused}


def _fields(answer: Any) -> Any:
    """The library hands on a body that is no JSON as text."""
    return answer.model_dump() if hasattr(answer, "model_dump") else answer


def _reply(body: Any) -> ChatReply:
    """Raises ``Transient`` for a body of another form: services under load send such."""
    try:
        choice, usage = body["choices"][0], body.get("usage") or {}
        message, finish = choice["message"], choice.get("finish_reason")
        refused = finish == "content_filter" or bool(message.get("refusal"))
        return ChatReply(
            text=message.get("content") or "",
            model=str(body.get("model", "")),
            input_tokens=int(usage.get("prompt_tokens") or 0),
            output_tokens=int(usage.get("completion_tokens") or 0),
            finish="refused" if refused else "length" if finish == "length" else "stop",
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Transient("an answer of an unknown form") from error
