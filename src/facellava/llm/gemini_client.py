"""Google's Gemini through its own library."""

from __future__ import annotations

import re
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from facellava.errors import MissingExtra, ProviderFailed

from .address import is_local, without_key
from .batch import Answer
from .chat import ChatReply, ChatRequest
from .retry import PASSING, Missing, Transient, retry_after

HOST = "https://generativelanguage.googleapis.com"
BLOCKED = {"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "IMAGE_SAFETY"}
ENDED = {
    "JOB_STATE_SUCCEEDED",
    "JOB_STATE_PARTIALLY_SUCCEEDED",
    "JOB_STATE_FAILED",
    "JOB_STATE_CANCELLED",
    "JOB_STATE_EXPIRED",
}
USABLE = {"JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_SUCCEEDED"}


class GeminiClient:
    """``generateContent`` without retries of its own; arguments, threads and privacy as for ``OpenAiClient``."""

    takes_batches = True
    most_requests = 10_000
    most_bytes = 18_000_000  # requests that are sent with the job may have 20 MB

    def __init__(self, base_url: str, key: str, timeout_s: float) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the library's own dependencies
                import httpx2
                from google import genai
        except ImportError as error:
            raise MissingExtra("data", "asking Gemini") from error
        address = base_url or HOST
        self.name = urlsplit(address).hostname or address
        self.local = is_local(self.name)
        self.poll_seconds = 0.2 if self.local else 30.0
        self._genai, self._key, self._http_errors = genai, key, httpx2.HTTPError
        http = httpx2.Client(trust_env=not self.local, follow_redirects=False, timeout=timeout_s)
        options = genai.types.HttpOptions(base_url=address, timeout=round(timeout_s * 1000), httpx_client=http)
        # vertexai is said because the library else reads it from the environment and asks another service
        self._client = genai.Client(vertexai=False, api_key=key or "none", http_options=options)
        self.close = weakref.finalize(self, http.close)

    def complete(self, request: ChatRequest) -> ChatReply:
        """One call. Raises ``Transient`` for what may pass and ``ProviderFailed`` for what will not."""
        contents, config = self._contents(request), self._config(request)
        with self._failures():
            answer = self._client.models.generate_content(model=request.model, contents=contents, config=config)
        return _reply(answer, request.model)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """The library's errors as ours, none with the key in it."""
        errors = self._genai.errors
        try:
            yield
        except errors.APIError as error:
            message = f"status {error.code} {without_key(error.message or '', self._key)}"
            if error.code in PASSING:
                raise Transient(message, _pause(error)) from error
            kind = Missing if error.code in (404, 405) else ProviderFailed
            raise kind(f"{self.name}: {message}: check model, key and address") from error
        except self._http_errors as error:
            raise Transient(f"the connection failed ({type(error).__name__})") from error
        except ValueError as error:  # no JSON, or JSON of another form
            raise Transient("an answer that is no JSON") from error

    def _contents(self, request: ChatRequest) -> Any:
        types = self._genai.types
        parts = [types.Part.from_bytes(data=a.data, mime_type=a.media_type) for a in request.attachments]
        return [types.Content(role="user", parts=[*parts, types.Part.from_text(text=request.text)])]

    def _config(self, request: ChatRequest) -> Any:
        return self._genai.types.GenerateContentConfig(
            max_output_tokens=request.max_tokens,
            temperature=request.temperature,
            seed=request.seed,
            system_instruction=request.system or None,
            response_mime_type="application/json" if request.json else None,
        )

    # --- batches, see batch.py ---

    def find_job(self, label: str) -> str | None:
        """Among the latest 100 jobs; None also where the service lists none."""
        try:
            with self._failures():
                latest = self._client.batches.list(config={"page_size": 100}).page
        except ProviderFailed:
            return None
        mine = [job for job in latest or [] if job.display_name == label and _state(job) in USABLE]
        return mine[0].name if mine else None

    def start_job(self, label: str, requests: Mapping[str, ChatRequest]) -> str:
        """Send the requests with the job."""
        source = [
            self._genai.types.InlinedRequest(
                contents=self._contents(request), config=self._config(request), metadata={"key": key}
            )
            for key, request in requests.items()
        ]
        model = next(iter(requests.values())).model
        with self._failures():
            job = self._client.batches.create(model=model, src=source, config={"display_name": label})
        return str(job.name)

    def job_ended(self, name: str) -> bool:
        """Whether the job succeeded, failed, expired or was cancelled."""
        with self._failures():
            return _state(self._client.batches.get(name=name)) in ENDED

    def read_job(self, name: str, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers, and the errors that the service gives for single requests."""
        with self._failures():
            job = self._client.batches.get(name=name)
        found: dict[str, Answer] = {}
        for number, row in enumerate((job.dest and job.dest.inlined_responses) or []):
            # the service keeps the order; the key decides where it comes back
            key = (row.metadata or {}).get("key") or keys[number]
            found[key] = self._answer(row)
        return found

    def _answer(self, row: Any) -> Answer:
        reason = str(row.error)
        if row.response is not None:
            try:
                return _reply(row.response, "")
            except Transient as failure:
                reason = str(failure)
        return ProviderFailed(f"{self.name}: {without_key(reason, self._key)}")


def _state(job: Any) -> str:
    return getattr(job.state, "name", str(job.state))


def _pause(error: Any) -> float | None:
    """Seconds that the service asks to wait: in a header, or among the details of the error (``"17s"``)."""
    if (seconds := retry_after(getattr(error.response, "headers", None) or {})) is not None:
        return seconds
    found = re.search(r"'retryDelay': '([\d.]+)s'", str(error.details))
    return float(found.group(1)) if found else None


def _reply(answer: Any, model: str) -> ChatReply:
    """Raises ``Transient`` for an answer that neither says something nor why not."""
    usage, feedback = answer.usage_metadata, answer.prompt_feedback
    blocked = bool(feedback and feedback.block_reason)
    if not answer.candidates and not blocked:
        raise Transient("an answer of an unknown form")
    finish, parts = "SAFETY", []
    if answer.candidates:
        first = answer.candidates[0]
        finish = getattr(first.finish_reason, "name", "")
        parts = (first.content and first.content.parts) or []
    spoken = int((usage and usage.candidates_token_count) or 0)
    thought = int((usage and usage.thoughts_token_count) or 0)
    return ChatReply(
        text="".join(part.text or "" for part in parts if not part.thought),
        model=str(answer.model_version or model),
        input_tokens=int((usage and usage.prompt_token_count) or 0),
        output_tokens=spoken + thought,  # both are charged
        finish="refused" if finish in BLOCKED else "length" if finish == "MAX_TOKENS" else "stop",
    )
