"""A real HTTP server that speaks the OpenAI and Gemini interfaces and fails on purpose.

What it answers is computed from the request, so that it does not depend on order. What it serves is recorded, so that a
test can say what was paid for.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


def digest(body: Body) -> str:
    """Names a request by its content."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]


def text_of(body: Body) -> str:
    """The words of a chat completions or generateContent request."""
    if "messages" in body:
        content = body["messages"][-1]["content"]
        return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)
    return "".join(p.get("text", "") for c in body["contents"] for p in c["parts"])


class FaultServer:
    """Use as a context manager; ``url`` is its address.

    Args:
        answer: the text of an answer, from the request's body.
        fault: (how often this request came before, body) -> a fault out of ``429``, ``429-date``, ``500``, ``503``,
            ``hang``, ``cut``, ``not-json``, ``other-form``, ``refusal``, ``length``, ``400``, ``401``,
            ``no-json-mode``, or "" for none.
        retry_after: seconds that a 429 asks for. hang: seconds that a hanging request takes.
    """

    def __init__(
        self,
        answer: Callable[[Body], str],
        fault: Callable[[int, Body], str] = lambda _seen, _body: "",
        *,
        retry_after: float = 0.2,
        hang: float = 3.0,
        port: int = 0,
    ) -> None:
        self.answer, self.fault = answer, fault
        self.retry_after, self.hang = retry_after, hang
        self.seen: Counter[str] = Counter()
        self.served: list[tuple[float, str]] = []
        self.faults: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.files: dict[str, str] = {}
        self.batches: dict[str, Body] = {}
        self.lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_of_faults = owner

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that hang up are what this is for."""

        self._http = Server(("127.0.0.1", port), Handler)
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.root = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultServer:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_of_faults: FaultServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    @property
    def owner(self) -> FaultServer:
        return self.server_of_faults

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[-1] == "content":
            self._send(200, self.owner.files[parts[-2]].encode(), "text/plain")
        elif parts[-1] == "batches":
            found = list(self.owner.batches.values())
            self._json(200, {"object": "list", "data": found, "has_more": False, "operations": found})
        elif "batches" in parts:
            self._json(200, self.owner.batches["/".join(parts[parts.index("batches") :])])
        else:
            self._json(404, {"error": {"message": f"nothing at {self.path}"}})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        with self.owner.lock:
            self.owner.at_once += 1
            self.owner.most_at_once = max(self.owner.most_at_once, self.owner.at_once)
        try:
            if path.endswith("/files"):
                self._upload(raw)
            elif path.endswith("/batches"):
                self._start_batch(json.loads(raw))
            elif path.endswith(":batchGenerateContent"):
                self._start_gemini_batch(json.loads(raw))
            else:
                self._chat(json.loads(raw), gemini=path.endswith(":generateContent"))
        finally:
            with self.owner.lock:
                self.owner.at_once -= 1

    # --- single calls ---

    def _chat(self, body: Body, *, gemini: bool) -> None:
        name = digest(body)
        with self.owner.lock:
            fault = self.owner.fault(self.owner.seen[name], body)
            self.owner.seen[name] += 1
            self.owner.faults[fault or "none"] += 1
        if fault and self._fail(fault, body, gemini=gemini):
            return
        text = self.owner.answer(body)
        with self.owner.lock:
            self.owner.served.append((time.time(), name))
        self._json(200, gemini_reply(text, body) if gemini else openai_reply(text, body))

    def _fail(self, fault: str, body: Body, *, gemini: bool) -> bool:
        """Fail in the given way; False where the answer itself is the fault."""
        if fault.startswith("429"):
            seconds = self.owner.retry_after
            wait = formatdate(time.time() + seconds, usegmt=True) if fault == "429-date" else str(seconds)
            self._json(429, _error(429, "slow down"), {"Retry-After": wait})
        elif fault in ("500", "503", "400", "401"):
            self._json(int(fault), _error(int(fault), "failing on purpose"))
        elif fault == "no-json-mode":
            if "response_format" not in body:
                return False
            self._json(400, _error(400, "response_format is not supported"))
        elif fault == "hang":
            time.sleep(self.owner.hang)
            self.close_connection = True
        elif fault == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"mess')
            self.close_connection = True
        elif fault == "not-json":
            self._send(200, b"<html>gateway</html>", "application/json")
        elif fault == "other-form":
            self._json(200, {"candidates": None} if gemini else {"choices": []})
        elif fault == "refusal":
            self._json(200, gemini_reply("", body, "SAFETY") if gemini else openai_reply("", body, "content_filter"))
        elif fault == "length":
            text = self.owner.answer(body)
            self._json(200, gemini_reply(text, body, "MAX_TOKENS") if gemini else openai_reply(text, body, "length"))
        else:
            raise AssertionError(fault)
        return True

    # --- batches ---

    def _upload(self, raw: bytes) -> None:
        # the file is the longest part of the form
        part = max(raw.split(b"\r\n\r\n"), key=len)
        name = f"file-{len(self.owner.files)}"
        self.owner.files[name] = part.split(b"\r\n--")[0].decode()
        self._json(
            200, {"id": name, "object": "file", "purpose": "batch", "bytes": 1, "created_at": 1, "filename": "b"}
        )

    def _start_batch(self, body: Body) -> None:
        good, bad = [], []
        for line in self.owner.files[body["input_file_id"]].splitlines():
            row = json.loads(line)
            if self.owner.fault(0, row["body"]):
                bad.append(
                    {"custom_id": row["custom_id"], "response": {"status_code": 500, "body": "no"}, "error": None}
                )
                continue
            self.owner.served.append((time.time(), digest(row["body"])))
            answer = openai_reply(self.owner.answer(row["body"]), row["body"])
            good.append({"custom_id": row["custom_id"], "response": {"status_code": 200, "body": answer}})
        name = f"batches/{len(self.owner.batches)}"
        short = name.split("/")[1]
        files = {}
        for kind, rows in (("output", good), ("error", bad)):
            files[kind] = f"{kind}-{short}"
            self.owner.files[files[kind]] = "\n".join(map(json.dumps, reversed(rows)))
        batch = {
            "id": short,
            "object": "batch",
            "endpoint": body["endpoint"],
            "status": "completed",
            "completion_window": "24h",
            "created_at": 1,
            "input_file_id": body["input_file_id"],
            "output_file_id": files["output"],
            "error_file_id": files["error"] if bad else None,
            "metadata": body.get("metadata"),
        }
        self.owner.batches[name] = batch
        self._json(200, batch)

    def _start_gemini_batch(self, body: Body) -> None:
        requests = body["batch"]["inputConfig"]["requests"]["requests"]
        answers = []
        for row in requests:
            self.owner.served.append((time.time(), digest(row["request"])))
            reply = gemini_reply(self.owner.answer(row["request"]), row["request"])
            answers.append({"response": reply, "metadata": row.get("metadata")})
        name = f"batches/{len(self.owner.batches)}"
        found = {
            "name": name,
            "metadata": {
                "name": name,
                "state": "BATCH_STATE_SUCCEEDED",
                "displayName": body["batch"].get("displayName"),
                "output": {"inlinedResponses": {"inlinedResponses": answers}},
            },
            "done": True,
        }
        self.owner.batches[name] = found
        self._json(200, found)

    def _json(self, status: int, body: Body, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, data: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def openai_reply(text: str, body: Body, finish: str = "stop") -> Body:
    """A chat completion; its model names the request, so that a cached reply can be traced back to it."""
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": f"{body['model']}@{digest(body)}",
        "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": len(text_of(body)), "completion_tokens": len(text), "total_tokens": 0},
    }


def gemini_reply(text: str, body: Body, finish: str = "STOP") -> Body:
    """A generateContent response."""
    parts = [{"text": text}] if text else []
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": len(text_of(body)), "candidatesTokenCount": len(text)},
        "modelVersion": f"g@{digest(body)}",
    }


def _error(status: int, message: str) -> Body:
    return {"error": {"message": message, "code": status, "status": "FAILED"}}
