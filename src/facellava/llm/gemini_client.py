"""Google's Gemini through its own library."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from facellava.errors import FacellavaError, MissingExtra, ProviderFailed

from .chat import ChatReply, ChatRequest
from .jobs import Jobs
from .openai_client import LOOPBACK
from .retry import PASSING, Transient, retry_after

HOST = "https://generativelanguage.googleapis.com"
BLOCKED = {"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "IMAGE_SAFETY"}
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}


class GeminiClient:
    """``generateContent`` without retries of its own; arguments as for ``OpenAiClient``."""

    takes_video = True
    takes_batches = True

    def __init__(self, base_url: str, key: str, timeout_s: float, jobs: Jobs | None = None) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the library's own dependencies
                from google import genai
        except ImportError as error:
            raise MissingExtra("data", "asking Gemini") from error
        address = base_url or HOST
        options = genai.types.HttpOptions(base_url=address, timeout=round(timeout_s * 1000))
        self._genai, self._client = genai, genai.Client(api_key=key or "none", http_options=options)
        self.name = urlsplit(address).hostname or address
        self.local = self.name in LOOPBACK
        self.poll_seconds = 0.2 if self.local else 30.0
        self._jobs = jobs

    def complete(self, request: ChatRequest) -> ChatReply:
        """One call. Raises ``Transient`` for what may pass and ``ProviderFailed`` for what will not."""
        import httpx

        genai = self._genai
        try:
            answer = self._client.models.generate_content(
                model=request.model, contents=self._contents(request), config=self._config(request)
            )
        except genai.errors.APIError as error:
            message = f"status {error.code} {' '.join(str(error.message).split())[:160]}"
            if error.code in PASSING:
                headers = getattr(error.response, "headers", None) or {}
                raise Transient(message, retry_after(headers)) from error
            raise ProviderFailed(f"{self.name}: {message}: check model, key and address") from error
        except (genai.errors.UnknownApiResponseError, ValueError) as error:
            raise Transient("an answer that is no JSON") from error
        except (httpx.HTTPError, *self._transport_errors()) as error:
            raise Transient(f"the connection failed ({type(error).__name__})") from error
        return _reply(answer, request.model)

    def _transport_errors(self) -> tuple[type[Exception], ...]:
        """Newer versions of the library bring their own transport."""
        transport = getattr(self._genai.errors, "httpx2", None)
        return (transport.HTTPError,) if transport is not None else ()

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

    def complete_batch(
        self, requests: Iterable[ChatRequest]
    ) -> Iterator[tuple[ChatRequest, ChatReply | FacellavaError]]:
        """A batch job with the requests in it; a job that was started before a restart is waited for."""
        wanted = {request.key: request for request in requests}
        if not wanted:
            return
        jobs, types = self._jobs or Jobs(None), self._genai.types
        name = jobs.get(wanted)
        if name is None:
            source = [
                types.InlinedRequest(contents=self._contents(r), config=self._config(r), metadata={"key": key})
                for key, r in wanted.items()
            ]
            model = next(iter(wanted.values())).model
            name = str(self._client.batches.create(model=model, src=source).name)
            jobs.put(wanted, name)
        job = self._client.batches.get(name=name)
        while getattr(job.state, "name", str(job.state)) not in ENDED:
            time.sleep(self.poll_seconds)
            job = self._client.batches.get(name=name)
        jobs.forget(wanted)
        for number, one in enumerate((job.dest and job.dest.inlined_responses) or []):
            # the service keeps the order; the key is checked where it comes back
            key = (one.metadata or {}).get("key") or list(wanted)[number]
            request = wanted[key]
            if one.response is not None:
                yield request, _reply(one.response, request.model)
            else:
                yield request, ProviderFailed(f"{self.name}: {one.error}")


def _reply(answer: Any, model: str) -> ChatReply:
    usage = answer.usage_metadata
    candidates = answer.candidates or []
    finish = getattr(getattr(candidates[0], "finish_reason", None), "name", "") if candidates else "SAFETY"
    parts = (candidates[0].content and candidates[0].content.parts) or [] if candidates else []
    return ChatReply(
        text="".join(part.text or "" for part in parts),
        model=str(answer.model_version or model),
        input_tokens=int((usage and usage.prompt_token_count) or 0),
        output_tokens=int((usage and usage.candidates_token_count) or 0),
        finish="refused" if finish in BLOCKED else "length" if finish == "MAX_TOKENS" else "stop",
    )
