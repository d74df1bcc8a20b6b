"""From a video to square face crops: the official release's procedure beside ours, in one run.

The release's procedure: write every frame as PNG, read it, detect, write the crop as PNG, read the crops, encode them
as a video again. Here both sides detect with the same network, so that the ratio shows the procedure alone, and the
peer's files are written by OpenCV, whose PNG encoder is several times faster than the FFmpeg of the release. The peer
puts no landmarks on; ours with landmarks are a row of their own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
from common import Row, medians, moving_portrait, row
from numpy.typing import NDArray

from facellava import weights
from facellava.face import BlazeFaceDetector, FaceFrontEnd, read_media, read_windows
from facellava.face.crop import cut_square, square_around
from facellava.face.nms import iou
from facellava.face.picture import pictures
from facellava.types import Media

PEER = "through PNG files, as the release does"


def release(video: Path, folder: Path, detector: BlazeFaceDetector) -> int:
    """The release's procedure; returns the bytes of the temporary files."""
    with av.open(str(video)) as source:
        for number, frame in enumerate(source.decode(video=0)):
            cv2.imwrite(str(folder / f"frame{number:05d}.png"), frame.to_ndarray(format="bgr24"))
    for path in sorted(folder.glob("frame*.png")):
        pixels = np.asarray(cv2.cvtColor(_read(path), cv2.COLOR_BGR2RGB), np.uint8)
        crop = cut_square(pixels, square_around(detector.detect(pixels)[0].box))
        cv2.imwrite(str(folder / path.name.replace("frame", "crop")), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    with av.open(str(folder / "crops.mp4"), "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for path in sorted(folder.glob("crop*.png")):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(_read(path), format="bgr24")))
        target.mux(stream.encode(None))
    return sum(path.stat().st_size for path in folder.glob("*.png"))


def _read(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    return np.asarray(pixels, np.uint8)


def everything(video: Path) -> Media:
    """All frames, as data construction reads them."""
    _, media = next(iter(read_windows(video, [None])))
    assert isinstance(media, Media)
    return media


def crops(front: FaceFrontEnd, media: Media) -> NDArray[np.float32]:
    """Cut the face out of every frame; returns its boxes (T, 4)."""
    frames = pictures(media.frames)
    (track,) = front.tracks(media)
    for index, detection in zip(track.indices, track.detections, strict=True):
        cut_square(frames[index], square_around(detection.box))
    return np.stack([detection.box for detection in track.detections])


def rows(rounds: int, video: Path | None = None) -> list[Row]:
    """The comparisons on `video`, or on one made for the purpose: 1280 x 720, 10 s."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if video is None:
            video = folder / "portrait.mp4"
            moving_portrait(video, seed=0, frames=250, size=(1280, 720))
        return _compare(video, folder, rounds)


def _compare(video: Path, folder: Path, rounds: int) -> list[Row]:
    detector = BlazeFaceDetector(weights.resolve("blazeface-short-range"))
    fronts = {k: FaceFrontEnd(weights.resolve, policy="paper", detect_every=k) for k in (1, 5)}
    boxes = {k: crops(front, everything(video)) for k, front in fronts.items()}  # also loads the networks
    fronts[1].clips(read_media(video, max_frames=8))
    overlap = np.mean([float(iou(a, b[None])[0]) for a, b in zip(boxes[1], boxes[5], strict=True)])
    temporary = release(video, folder, detector)
    notes = {
        "every": f"0 bytes of temporary files, the peer's {temporary / 1e6:.0f} MB",
        "fifth": f"mean IoU {overlap:.3f} with boxes of every frame",
    }
    ours = {
        "crops of every frame": (lambda: crops(fronts[1], everything(video)), 10, notes["every"]),
        "crops, detection every 5th frame": (lambda: crops(fronts[5], everything(video)), 20, notes["fifth"]),
        "crops of 8 frames": (lambda: crops(fronts[1], read_media(video, max_frames=8)), 30, "as inference needs"),
        "crops and landmarks of every frame": (lambda: fronts[1].clips(everything(video)), 1, "the peer has none"),
    }
    return [
        row(
            f"{name} ({len(boxes[1])})",
            PEER,
            medians(run, lambda: release(video, folder, detector), rounds),
            goal,
            n,
            1,
        )
        for name, (run, goal, n) in ours.items()
    ]
