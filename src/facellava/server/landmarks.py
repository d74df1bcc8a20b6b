"""``/v1/landmarks``: where the faces are. No word about them, so it is quick, and the same in every mode."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from facellava.answers import reason_to_abstain
from facellava.face.crop import square_around
from facellava.model.regions import REGIONS
from facellava.server.faces import Found, Medium
from facellava.server.schemas import LandmarksRequest
from facellava.server.service import Service
from facellava.server.views import in_turn
from facellava.types import FaceClip

__all__ = ["landmarks"]


async def landmarks(service: Service, request: LandmarksRequest, http: Request) -> dict[str, Any]:
    """The response; raises Problem and FacellavaError."""
    service.require_model(request.model)
    medium = Medium.of([await service.sources.read(request.media, "media")])

    def work() -> dict[str, Any]:
        found = service.faces.find(medium)
        return {
            "object": "landmarks",
            "kind": found.kind,
            "width": found.size[0],
            "height": found.size[1],
            "moment": round(found.moment, 3),
            "regions": {region.name: [region.start, region.stop] for region in REGIONS},
            "faces": [_face(found, clip) for clip in found.clips],
            "detections": [
                {"time": round(time, 3), "boxes": [_rounded(box) for box in boxes]} for time, boxes in found.boxes
            ],
        }

    return await in_turn(service, http, work)


def _face(found: Found, clip: FaceClip) -> dict[str, Any]:
    """A face in the representative frame and, of a video, in every frame in which it was found."""
    nearest = int(np.abs(clip.times - found.moment).argmin())
    track = [{"time": round(float(clip.times[n]), 3), **_place(clip, n)} for n in range(len(clip.times))]
    return {
        "id": clip.face_id,
        "caution": reason_to_abstain(clip),
        **_place(clip, nearest),
        "track": track if found.kind == "video" else [],
    }


def _place(clip: FaceClip, frame: int) -> dict[str, Any]:
    square = square_around(clip.boxes[frame], clip.margin, clip.crop)
    points = clip.landmarks[frame] * square.side + (square.x, square.y)
    return {"box": _rounded(clip.boxes[frame]), "crop": list(square), "landmarks": [_rounded(xy) for xy in points]}


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 1) for value in values]
