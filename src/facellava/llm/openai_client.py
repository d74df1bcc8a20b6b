"""Any service that speaks the OpenAI chat completions interface, our own server among them."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from facellava.errors import FacellavaError, MissingExtra, ProviderFailed

from .chat import ChatReply, ChatRequest
from .jobs import Jobs
from .retry import PASSING, Transient, retry_after

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FINISHED = {"completed", "failed", "expired", "cancelled"}


class OpenAiClient:
    """Chat completions without retries of its own; see ``connect`` for those. Safe to share between threads.

    Args:
        base_url: such as ``https://api.openai.com/v1``. key: "" where none is needed.
        timeout_s: of one call.
        jobs: remembers batch jobs, so that a restart waits for them instead of paying twice.
    """

    takes_video = False
    takes_batches = True

    def __init__(self, base_url: str, key: str, timeout_s: float, jobs: Jobs | None = None) -> None:
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("data", "asking an OpenAI-compatible service") from error
        self._openai = openai
        self._client = openai.OpenAI(
            base_url=base_url, api_key=key or "none", timeout=timeout_s, max_retries=0, organization=None, project=None
        )
        parts = urlsplit(base_url)
        self.name = parts.hostname or base_url
        self.local = self.name in LOOPBACK
        self.poll_seconds = 1.0 if self.local else 30.0
        self._jobs = jobs
        self._json_mode = True

    def complete(self, request: ChatRequest) -> ChatReply:
        """One call. Raises ``Transient`` for what may pass and ``ProviderFailed`` for what will not."""
        openai = self._openai
        try:
            body = _body(request, json_mode=self._json_mode)
            return _reply(self._client.chat.completions.create(**body).model_dump())
        except openai.APITimeoutError as error:
            raise Transient("no answer in time") from error
        except openai.APIConnectionError as error:
            raise Transient(f"the connection failed ({type(error.__cause__ or error).__name__})") from error
        except openai.APIStatusError as error:
            if error.status_code == 400 and self._json_mode and "response_format" in error.message:
                self._json_mode = False  # the service knows no JSON mode; the prompt asks for JSON too
                return self.complete(request)
            raise self._status(error) from error
        except (openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise Transient("an answer that is no JSON") from error

    def _status(self, error: Any) -> Exception:
        message = f"status {error.status_code} {_short(error.message)}"
        if error.status_code in PASSING:
            return Transient(message, retry_after(error.response.headers))
        return ProviderFailed(f"{self.name}: {message}: check model, key and address")

    # --- batches ---

    def complete_batch(
        self, requests: Iterable[ChatRequest]
    ) -> Iterator[tuple[ChatRequest, ChatReply | FacellavaError]]:
        """Upload, wait, download; a job that was started before a restart is waited for."""
        wanted = {request.key: request for request in requests}
        if not wanted:
            return
        jobs = self._jobs or Jobs(None)
        name = jobs.get(wanted)
        if name is None:
            name = self._upload(wanted)
            jobs.put(wanted, name)
        batch = self._client.batches.retrieve(name)
        while batch.status not in FINISHED:
            time.sleep(self.poll_seconds)
            batch = self._client.batches.retrieve(name)
        jobs.forget(wanted)
        for file in (batch.output_file_id, batch.error_file_id):
            if file:
                yield from self._results(self._client.files.content(file).text, wanted)
        why = f"{self.name}: the batch {name} ended as {batch.status} without an answer to it"
        yield from ((request, ProviderFailed(why)) for request in wanted.values())

    def _upload(self, wanted: dict[str, ChatRequest]) -> str:
        lines = [
            json.dumps(
                {
                    "custom_id": key,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": _body(request, json_mode=self._json_mode),
                }
            )
            for key, request in wanted.items()
        ]
        data = ("\n".join(lines) + "\n").encode()
        file = self._client.files.create(file=("batch.jsonl", io.BytesIO(data)), purpose="batch")
        batch = self._client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        return batch.id

    def _results(
        self, text: str, wanted: dict[str, ChatRequest]
    ) -> Iterator[tuple[ChatRequest, ChatReply | FacellavaError]]:
        for line in text.splitlines():
            row = json.loads(line)
            request = wanted.pop(row.get("custom_id", ""), None)
            if request is None:
                continue
            response = row.get("response") or {}
            try:
                if response.get("status_code") != 200:
                    reason = row.get("error") or response.get("body") or "no reason"
                    raise Transient(_short(json.dumps(reason)))
                yield request, _reply(response["body"])
            except Transient as failure:
                yield request, ProviderFailed(f"{self.name}: {failure}")


def _body(request: ChatRequest, *, json_mode: bool) -> dict[str, Any]:
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
    if request.json and json_mode:
        body["response_format"] = {"type": "json_object"}
    if request.seed is not None:
        body["seed"] = request.seed
    return body


def _reply(body: dict[str, Any]) -> ChatReply:
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


def _short(text: str) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= 160 else line[:157] + "..."
