"""Counters for Prometheus: numbers about requests, none about what is in them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["Measures"]

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Measures:
    """The counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = r = CollectorRegistry()
        self._requests = Counter("facellava_requests", "Requests by route and status", ["route", "status"], registry=r)
        self._seconds = Histogram(
            "facellava_request_seconds", "From head to end of answer", ["route"], buckets=_SECONDS, registry=r
        )
        self._refusals = Counter("facellava_refusals", "Refused at the door, by reason", ["reason"], registry=r)
        self._stopped = Counter("facellava_stopped_jobs", "Ended before they were done", ["reason"], registry=r)
        self._waited = Histogram("facellava_queue_seconds", "Waiting for the model", buckets=_SECONDS, registry=r)
        self._worked = Histogram("facellava_model_seconds", "Work of the model", buckets=_SECONDS, registry=r)
        self._tokens = Counter("facellava_tokens", "Tokens read and written", ["kind"], registry=r)
        self._faces = Counter("facellava_faces", "Faces that were read anew or remembered", ["cache"], registry=r)
        self.waiting = Gauge("facellava_queue_length", "Requests that wait for the model", registry=r)
        self.running = Gauge("facellava_running", "Requests that the model works on", registry=r)
        self.cache_bytes = Gauge("facellava_cache_bytes", "Memory of remembered faces", registry=r)
        self.upload_bytes = Gauge("facellava_upload_bytes", "Memory of uploaded files", registry=r)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request came to its end."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was turned away before any route saw it."""
        self._refusals.labels(reason).inc()

    def stopped(self, reason: str) -> None:
        """The model's work for a request was broken off."""
        self._stopped.labels(reason).inc()

    def worked(self, waited: float, seconds: float) -> None:
        """The model is done with a request, after so many seconds of waiting and of work."""
        self._waited.observe(waited)
        self._worked.observe(seconds)

    def tokens(self, read: int, written: int) -> None:
        """Of one answer."""
        self._tokens.labels("read").inc(read)
        self._tokens.labels("written").inc(written)

    def face(self, remembered: bool) -> None:
        """A face was needed."""
        self._faces.labels("hit" if remembered else "miss").inc()

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self._registry)
