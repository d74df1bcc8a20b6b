"""From a decoded medium to face clips: detect, track, cut, put landmarks on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facellava.errors import FaceLeavesFrame, LandmarksFailed, NoFace, SeveralFaces, UsageError
from facellava.face.cascade import CascadeDetector
from facellava.face.crop import blur, cut_square, square_around
from facellava.face.detect import BlazeFaceDetector, Detection, Detector
from facellava.face.landmarks import Landmarker, LandmarkResult, MeshLandmarker
from facellava.face.picture import pictures
from facellava.face.sparse import detect_sparsely
from facellava.face.track import Track, link
from facellava.interrupt import poll
from facellava.types import Crop, FaceClip, Media, Quality, Source

__all__ = ["Detected", "FaceFrontEnd", "Policy"]

Policy = Literal["all", "paper"]


class _Seen(NamedTuple):
    """One face in one frame."""

    index: int
    detection: Detection
    landmarks: LandmarkResult


class Detected(NamedTuple):
    """What was found in a medium.

    Attributes:
        clips: the faces.
        boxes: of each frame float32 (n, 4) x0, y0, x1, y1 of all that the detector takes for a face, those too on which
            no landmarks were found.
    """

    clips: list[FaceClip]
    boxes: list[NDArray[np.float32]]


class FaceFrontEnd:
    """Finds every face of a medium and cuts it out, frame by frame.

    The crop is a square centred on the detector's box, `(1 + margin)` times its longer side, neither smoothed
    nor aligned, 256 x 256 (appendix E.1); outside the picture its edge is repeated. Networks are loaded on
    first use. One instance serves one thread; instances share nothing.

    Args:
        resolve: gives the path of a weight: `blazeface-short-range`, `blazeface-full-range`, `face-mesh`,
            `face-blendshapes`.
        margin: how much wider than the box the crop is.
        crop: `centred` as above; `corner` as the official release cuts, see `types.Crop`.
        policy: `all` returns every face and leaves gaps where it is not seen; `paper` refuses media in which
            the face leaves the frame, several faces appear, or landmarks fail, as the paper's data
            preparation does.
        landmarker: another backend; None is the mesh.
        detector: another detector; None is BlazeFace: short and full range, with tiles for small faces in
            pictures (not in videos), and with policy `paper` short range alone, MediaPipe's default as in the
            paper.
        detect_every: frames of a video between two looks of the detector. In between, boxes are interpolated
            where both looks agree, and looked for where they do not; 1 looks at every frame, as the paper does.
        threads: CPU threads of the networks.

    Raises:
        UsageError: margin below 0, unknown policy or crop, detect_every below 1.
    """

    def __init__(
        self,
        resolve: Callable[[str], Path],
        *,
        margin: float = 0.0,
        crop: Crop = "centred",
        policy: Policy = "all",
        landmarker: Landmarker | None = None,
        detector: Detector | None = None,
        detect_every: int = 1,
        threads: int = 1,
    ) -> None:
        if not 0 <= margin <= 4:
            raise UsageError(f"margin is {margin}, but must lie between 0 and 4")
        if policy not in ("all", "paper"):
            raise UsageError(f"unknown policy '{policy}': use 'all' or 'paper'")
        if crop not in ("centred", "corner"):
            raise UsageError(f"unknown crop '{crop}': use 'centred' or 'corner'")
        if detect_every < 1:
            raise UsageError(f"detect_every is {detect_every}, but must be at least 1")
        self._resolve, self._threads, self._every = resolve, threads, detect_every
        self._margin, self._policy = margin, policy
        self._crop: Crop = crop
        self._given_detector, self._landmarker = detector, landmarker
        self._near: BlazeFaceDetector | None = None
        self._far: BlazeFaceDetector | None = None
        self._cascades: dict[str, Detector] = {}

    def clips(self, media: Media) -> list[FaceClip]:
        """All faces of a medium, as :meth:`find` numbers them; raises what that raises."""
        return self.find(media).clips

    def find(self, media: Media) -> Detected:
        """All faces of a medium, numbered by first appearance and from left to right, and where a face may be.

        Raises:
            NoFace: no face in any frame, or none on which landmarks can be found.
            FaceLeavesFrame, SeveralFaces, LandmarksFailed: with policy `paper`; the message names the frame.
            WeightsUnavailable: and whatever else `resolve` raises.
        """
        tracks = self.tracks(media)
        faces = [seen for seen in (self._landmarked(track, media) for track in tracks) if seen]
        if not faces:
            raise NoFace(f"no face in {_name(media)} is clear enough for landmarks: use a sharper or more frontal one")
        faces.sort(key=lambda seen: (seen[0].index, float(seen[0].detection.centre[0])))
        clips = [self._clip(number, seen, media) for number, seen in enumerate(faces)]
        return Detected(clips, _boxes(tracks, len(media.times)))

    def tracks(self, media: Media) -> list[Track]:
        """The faces of a medium before landmarks are put on them; raises what :meth:`clips` raises."""
        detector = self._ready_detector(media)
        found = detect_sparsely(detector, pictures(media.frames), self._every)
        if not any(found):
            raise NoFace(f"no face was found in {_name(media)}: use a picture in which a face is larger and upright")
        if self._policy == "paper":
            _require_one_face(found, media)
        return link(found, media.times)

    def _ready_detector(self, media: Media) -> Detector:
        if self._given_detector is not None:
            return self._given_detector
        if self._near is None:
            self._near = self._blazeface("short")
        if self._policy == "paper":
            return self._near
        key = media.kind
        if key not in self._cascades:
            self._cascades[key] = CascadeDetector(self._near, self._ready_far, tiles=key == "image")
        return self._cascades[key]

    def _ready_far(self) -> BlazeFaceDetector:
        if self._far is None:
            self._far = self._blazeface("full")
        return self._far

    def _blazeface(self, reach: str) -> BlazeFaceDetector:
        return BlazeFaceDetector(self._resolve(f"blazeface-{reach}-range"), self._threads)

    def _ready_landmarker(self) -> Landmarker:
        if self._landmarker is None:
            self._landmarker = MeshLandmarker(
                self._resolve("face-mesh"), self._resolve("face-blendshapes"), self._threads
            )
        return self._landmarker

    def _landmarked(self, track: Track, media: Media) -> list[_Seen]:
        """The frames of a track in which landmarks succeed; the others are gaps."""
        landmarker = self._ready_landmarker()
        frames = pictures(media.frames)
        seen = []
        for index, detection in zip(track.indices, track.detections, strict=True):
            poll()
            result = landmarker(frames[index], detection)
            if result is not None:
                seen.append(_Seen(index, detection, result))
            elif self._policy == "paper":
                raise LandmarksFailed(
                    f"no landmarks in {_moment(media, index)}: leave the file out or use policy 'all'"
                )
        return seen

    def _clip(self, number: int, seen: list[_Seen], media: Media) -> FaceClip:
        squares = [square_around(s.detection.box, self._margin, self._crop) for s in seen]
        frames = pictures(media.frames)
        crops = np.stack([cut_square(frames[s.index], q) for s, q in zip(seen, squares, strict=True)])
        points = [q.normalise(s.landmarks.points68) for s, q in zip(seen, squares, strict=True)]
        indices = [s.index for s in seen]
        return FaceClip(
            frames=crops,
            landmarks=np.stack(points),
            blendshapes=np.stack([s.landmarks.blendshapes for s in seen]),
            boxes=np.stack([s.detection.box for s in seen]).astype(np.float32),
            times=media.times[indices],
            face_id=number,
            quality=_quality(seen, crops),
            source=Source(media.sha256, media.fps, media.duration),
            margin=self._margin,
            spans=_spans(indices, media.times),
            crop=self._crop,
        )


def _boxes(tracks: list[Track], frames: int) -> list[NDArray[np.float32]]:
    found: list[list[NDArray[np.floating]]] = [[] for _ in range(frames)]
    for track in tracks:
        for index, detection in zip(track.indices, track.detections, strict=True):
            found[index].append(detection.box)
    return [np.array(boxes, np.float32).reshape(-1, 4) for boxes in found]


def _quality(seen: list[_Seen], crops: NDArray[np.uint8]) -> Quality:
    """The worst frame's size; the median of everything else."""
    sizes = [float(np.min(s.detection.box[2:] - s.detection.box[:2])) for s in seen]
    yaw, pitch, roll = np.median([s.landmarks.pose for s in seen], axis=0).tolist()
    return Quality(
        size=min(sizes),
        blur=float(np.median([blur(crop) for crop in crops])),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        score=float(np.median([s.detection.score for s in seen])),
    )


def _spans(indices: list[int], times: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    """[first, last] moment of each run of consecutive frames."""
    breaks = [i for i in range(1, len(indices)) if indices[i] != indices[i - 1] + 1]
    starts, ends = [0, *breaks], [*breaks, len(indices)]
    return tuple((float(times[indices[a]]), float(times[indices[b - 1]])) for a, b in zip(starts, ends, strict=True))


def _require_one_face(found: list[list[Detection]], media: Media) -> None:
    for index, detections in enumerate(found):
        if not detections:
            raise FaceLeavesFrame(f"no face in {_moment(media, index)}: leave the file out or use policy 'all'")
        if len(detections) > 1:
            raise SeveralFaces(
                f"{len(detections)} faces in {_moment(media, index)}: leave the file out or use policy 'all'"
            )


def _moment(media: Media, index: int) -> str:
    if media.kind == "image":
        return _name(media)
    return f"frame {index} ({media.times[index]:.2f} s) of {_name(media)}"


def _name(media: Media) -> str:
    return str(media.path) if media.path else f"the given {media.kind}"
