"""What a client is told about the model before it asks: licence, what it is for, and where the limits are."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from facellava import tasks
from facellava.notice import TEXT
from facellava.server.service import Service

__all__ = ["model_card"]

_STARTED = int(time.time())
_USES = {
    "intended": "describing what a face displays: expression, movements, attributes, apparent age",
    "not_for": [
        "inferring emotions at work or in education",
        "decisions about people: hiring, credit, insurance, policing, border control, medical diagnosis",
        "identifying people, or rating them",
        "people who do not know about it",
    ],
    "notice": TEXT,
    "documentation": "docs/responsible-use.md",
}


def model_card(service: Service) -> dict[str, Any]:
    """OpenAI's model object with what they should know who ask this model."""
    settings = service.settings
    names = ["action_units"] if settings.mode == "movements" else list(tasks.all_tasks())
    return {
        "id": service.analyzer.name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "facellava",
        "license": settings.licence,
        "mode": settings.mode,
        "tasks": names,
        "untrained": service.analyzer.engine.untrained,
        "context": service.analyzer.engine.context,
        "limits": {**asdict(settings.bounds), "queue": settings.queue, "seconds": settings.seconds},
        "responsible_use": _USES,
    }
