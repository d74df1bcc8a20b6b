"""Preprocessed clips on disk: one file per clip, named after what it was made from.

A file holds the crops as JPEG (a picture) or H.264 (a video), the landmarks, blendshapes, boxes and times, and the
clip's facts. It is written atomically and its bytes depend on its inputs only, so that several workers, or one that
was killed and came back, can write the same clip.
"""

from __future__ import annotations

import io
import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava.errors import DamagedMedia, FileMissing
from facellava.files import reading, write_atomic
from facellava.types import Crop, FaceClip, Quality, Source

JPEG_QUALITY = 95
H264_CRF = "18"
MILLISECONDS = Fraction(1, 1000)
CENTRED: Crop = "centred"
"""How clips without another entry were cut."""

Packed = dict[str, np.ndarray]


class Measured(NamedTuple):
    """landmarks float32 (T, 68, 2) in [0, 1] of the crop, blendshapes float32 (T, 52), times float64 (T,) in seconds,
    margin and place of the crop."""

    landmarks: NDArray[np.float32]
    blendshapes: NDArray[np.float32]
    times: NDArray[np.float64]
    margin: float
    crop: Crop


class ClipStore:
    """Clips by key below ``folder``. Reading and writing are safe from several processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the clip ``key`` is or would be."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).is_file()

    def save(self, key: str, clip: FaceClip) -> int:
        """Write a clip; returns the bytes it takes on disk."""
        from safetensors.numpy import save

        media_type, encoded = _encode(clip.frames, clip.times)
        arrays = {
            "encoded": np.frombuffer(encoded, np.uint8),
            "landmarks": clip.landmarks,
            "blendshapes": clip.blendshapes,
            "boxes": clip.boxes,
            "times": clip.times.astype(np.float64),
        }
        facts = {
            "media_type": media_type,
            "face_id": clip.face_id,
            "quality": asdict(clip.quality),
            "source": asdict(clip.source),
            "margin": clip.margin,
            "spans": clip.spans,
        }
        if clip.crop != CENTRED:  # the bytes of centred ones stay what they always were
            facts["crop"] = clip.crop
        # one entry only: the library orders several ones differently from run to run
        data = save(
            {k: np.ascontiguousarray(v) for k, v in arrays.items()}, {"clip": json.dumps(facts, sort_keys=True)}
        )
        write_atomic(self.path(key), data)
        return len(data)

    def load(self, key: str) -> FaceClip:
        """The clip, its crops decoded again (JPEG and H.264 are lossy).

        Raises:
            FileMissing: no such clip. DamagedMedia: it cannot be read, or its crops and its landmarks differ in number.
        """
        arrays, facts = self._read(key)
        with self._whole(key):
            frames = _decode(arrays["encoded"].tobytes(), facts["media_type"])
            clip = FaceClip(
                frames=frames,
                landmarks=arrays["landmarks"],
                blendshapes=arrays["blendshapes"],
                boxes=arrays["boxes"],
                times=arrays["times"],
                face_id=facts["face_id"],
                quality=Quality(**facts["quality"]),
                source=Source(**facts["source"]),
                margin=facts["margin"],
                spans=tuple((a, b) for a, b in facts["spans"]),
                crop=facts.get("crop", CENTRED),
            )
        if len(frames) != len(clip.times):
            raise DamagedMedia(
                f"clip {key} holds {len(frames)} crops for {len(clip.times)} moments: "
                f"delete {self.path(key)} and build again"
            )
        return clip

    def encoded(self, key: str) -> tuple[bytes, str]:
        """The crops as they lie on disk, and their media type: ``image/jpeg`` or ``video/mp4``."""
        arrays, facts = self._read(key)
        with self._whole(key):
            return arrays["encoded"].tobytes(), facts["media_type"]

    def measured(self, key: str) -> Measured:
        """What was measured on a clip, without decoding its crops."""
        arrays, facts = self._read(key)
        with self._whole(key):
            crop = facts.get("crop", CENTRED)
            return Measured(arrays["landmarks"], arrays["blendshapes"], arrays["times"], facts["margin"], crop)

    def source(self, key: str) -> Source:
        """Digest, rate and duration of the medium from which the clip was made."""
        facts = self._read(key)[1]
        with self._whole(key):
            return Source(**facts["source"])

    def _read(self, key: str) -> tuple[Packed, dict[str, Any]]:
        from safetensors import safe_open

        path = self.path(key)
        if not path.is_file():
            raise FileMissing(f"{path} is missing: run the build again, it makes what is not there")
        with self._whole(key), safe_open(path, "numpy") as file:
            facts = json.loads((file.metadata() or {})["clip"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 - not a mapping

    def _whole(self, key: str) -> AbstractContextManager[None]:
        return reading(self.path(key), "delete it and build again", DamagedMedia)


def _encode(frames: NDArray[np.uint8], times: NDArray[np.float64]) -> tuple[str, bytes]:
    if len(frames) == 1:
        return "image/jpeg", jpeg(frames[0])
    return "video/mp4", _h264(frames, times)


def jpeg(pixels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> bytes:
    """uint8 (H, W, 3) RGB as JPEG with full colour resolution."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def _h264(frames: NDArray[np.uint8], times: NDArray[np.float64]) -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        # one thread: x264's output depends on how many there are
        options = {"crf": H264_CRF, "preset": "veryfast", "threads": "1"}
        stream = container.add_stream("libx264", rate=1000, options=options)
        stream.width = stream.height = frames.shape[1]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = MILLISECONDS
        stamps = _increasing(np.round((times - times[0]) * 1000).astype(int))
        for pixels, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamp, MILLISECONDS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _increasing(stamps: NDArray[np.int64]) -> list[int]:
    """The stamps, each at least one above the one before."""
    result: list[int] = []
    for stamp in stamps.tolist():
        result.append(max(stamp, result[-1] + 1) if result else stamp)
    return result


def _decode(data: bytes, media_type: str) -> NDArray[np.uint8]:
    if media_type == "image/jpeg":
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))[None]
    import av

    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames).astype(np.uint8, copy=False)
