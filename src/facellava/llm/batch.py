"""Many requests through a service's batch interface, in jobs that outlive the process."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

from facellava.errors import FacellavaError, ProviderFailed

from .chat import ChatReply, ChatRequest
from .jobs import Job, Jobs
from .retry import Missing

Answer = ChatReply | FacellavaError
Result = TypeVar("Result")


class BatchService(Protocol):
    """The steps of a batch job. Each may raise ``Transient`` and ``ProviderFailed``; ``Missing`` for an unknown job.

    Attributes:
        name: the service's host. poll_seconds: between two looks at a job.
        most_requests, most_bytes: of one job.
    """

    name: str
    poll_seconds: float
    most_requests: int
    most_bytes: int

    def find_job(self, label: str) -> str | None:
        """The name of a job with that label that waits, runs or succeeded."""
        ...

    def start_job(self, label: str, requests: Mapping[str, ChatRequest]) -> str:
        """Start a job and name it."""
        ...

    def job_ended(self, name: str) -> bool:
        """Whether there is nothing more to wait for."""
        ...

    def read_job(self, name: str, keys: Sequence[str]) -> dict[str, Answer]:
        """What an ended job answered, by the keys of the requests that it was started with."""
        ...


class Retrying(Protocol):
    """Runs a step again while it may pass."""

    def __call__(self, step: Callable[[], Result], /) -> Result: ...


def ask_in_batches(
    service: BatchService, jobs: Jobs, wanted: Mapping[str, ChatRequest], retrying: Retrying
) -> Iterator[tuple[str, Answer]]:
    """An answer or an error for every wanted request, by its key.

    A job is forgotten only after its last answer was handed over: a caller that keeps each answer before it asks for
    the next loses none when it is killed.

    Raises:
        ProviderFailed: the service takes no job, or cannot be asked about one.
    """
    queue = deque(jobs.holding(service.name, wanted))
    remembered = {job.name for job in queue}
    under_way = {key for job in queue for key in job.keys}
    for part in _parts(service, {key: request for key, request in wanted.items() if key not in under_way}):
        queue.append(_start(service, jobs, part, retrying))
    left = dict(wanted)
    while queue:
        job = queue.popleft()
        try:
            found = _answers(service, job, retrying)
        except Missing:
            if job.name not in remembered:
                raise
            # services delete old jobs; what this one held is asked again
            jobs.forget(job)
            again = {key: left[key] for key in job.keys if key in left}
            queue.extend(_start(service, jobs, part, retrying) for part in _parts(service, again))
            continue
        none = ProviderFailed(f"{service.name}: the batch job {job.name} ended without an answer to this request")
        for key in job.keys:
            if left.pop(key, None) is not None:
                yield key, found.get(key, none)
        jobs.forget(job)


def _answers(service: BatchService, job: Job, retrying: Retrying) -> dict[str, Answer]:
    while not retrying(lambda: service.job_ended(job.name)):
        time.sleep(service.poll_seconds)
    return retrying(lambda: service.read_job(job.name, job.keys))


def _start(service: BatchService, jobs: Jobs, part: Mapping[str, ChatRequest], retrying: Retrying) -> Job:
    label = "facellava-" + hashlib.sha256("\n".join(part).encode()).hexdigest()[:32]

    def step() -> str:
        # looked for at each try, because a job may have been started by a call whose answer never arrived
        return service.find_job(label) or service.start_job(label, part)

    job = Job(service.name, retrying(step), tuple(part))
    jobs.put(job)
    return job


def _parts(service: BatchService, requests: Mapping[str, ChatRequest]) -> Iterator[dict[str, ChatRequest]]:
    """Requests in jobs that are small enough for the service."""
    part: dict[str, ChatRequest] = {}
    size = 0
    for key, request in requests.items():
        more = _encoded_size(request)
        if part and (len(part) == service.most_requests or size + more > service.most_bytes):
            yield part
            part, size = {}, 0
        part[key] = request
        size += more
    if part:
        yield part


def _encoded_size(request: ChatRequest) -> int:
    """Bytes of a request in JSON, on the safe side: pictures in base64, text with escapes."""
    pictures = sum(4 * len(a.data) // 3 + 200 for a in request.attachments)
    return pictures + 2 * len((request.system + request.text).encode(errors="surrogatepass")) + 1000
