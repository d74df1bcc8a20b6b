"""What a harness shows of a sample: the medium as it is, or pictures cut out of it, as files.

``whole`` leaves files where they are and cuts out only what a path cannot name: one frame or a window of a video, the
surroundings of a labelled box. ``crop`` shows the face crops that ``facellava eval`` shows to models of other people.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from facellava.errors import FacellavaError
from facellava.evaluation.respondents.service import FRAMES, shown_frames
from facellava.face import read_media, read_windows
from facellava.files import write_atomic
from facellava.instruct import preprocess
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.executor import LocalEngine, WorkerDied
from facellava.instruct.recipe import PreprocessConfig
from facellava.model.frames import frame_indices
from facellava.types import Media, Sample

Faces = Literal["whole", "crop"]
SURROUNDINGS = 1.0
"""Of a labelled box as much is shown beside it on either side as it is wide: enough to find the face in again."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Files of one sample, in order: a picture, a video (``is_video``), or the frames of a video."""

    files: tuple[Path, ...]
    is_video: bool = False


class Pictures(NamedTuple):
    """Sample id -> what is shown of it, or why nothing can be."""

    found: dict[str, Shown]
    left_out: dict[str, str]


def show(
    samples: Sequence[Sample],
    folder: Path,
    *,
    faces: Faces,
    policy: Literal["paper", "all"] = "all",
    split_videos: bool = False,
    workers: int = 1,
) -> Pictures:
    """Files for every sample that can be shown.

    Args:
        folder: where pictures that have to be made go, by a hash of what they show.
        policy: of the crops, as the benchmark's. workers: processes that make them, 0 for one a core.
        split_videos: show frames instead of video files.
    """
    if faces == "crop":
        return _crops(samples, folder, policy, workers)
    found: dict[str, Shown] = {}
    left_out: dict[str, str] = {}
    for sample in samples:
        try:
            found[sample.id] = _whole(sample, folder, split_videos)
        except FacellavaError as error:
            left_out[sample.id] = str(error)
    return Pictures(found, left_out)


def _whole(sample: Sample, folder: Path, split_videos: bool) -> Shown:
    is_video = sample.kind == "video"
    untouched = sample.window is None and sample.frame is None and sample.box is None
    if untouched and not (is_video and split_videos):
        read_media(sample.media, max_frames=1)  # a harness would stop at a damaged file, in the middle of its run
        return Shown((sample.media,), is_video)
    window = preprocess.unit_of(sample).window
    (_, media) = next(iter(read_windows(sample.media, [window])))
    if isinstance(media, FacellavaError):
        raise media
    stem = preprocess.unit_key(sample, f"whole {FRAMES} {SURROUNDINGS}")
    chosen = frame_indices(len(media.frames), min(FRAMES, len(media.frames)))
    return Shown(_write(folder, stem, (_around(media, int(i), sample.box) for i in chosen)))


def _around(media: Media, index: int, box: preprocess.Box | None) -> np.ndarray:
    frame = np.asarray(media.frames[index])
    if box is None:
        return frame
    x, y, width, height = box
    left, top = max(0, int(x - SURROUNDINGS * width)), max(0, int(y - SURROUNDINGS * height))
    right, bottom = int(x + (1 + SURROUNDINGS) * width), int(y + (1 + SURROUNDINGS) * height)
    return frame[top : max(bottom, top + 1), left : max(right, left + 1)]


def _crops(samples: Sequence[Sample], folder: Path, policy: Literal["paper", "all"], workers: int) -> Pictures:
    config = PreprocessConfig(policy=policy)
    made_by = preprocess.fingerprint(config)
    keys = {sample.id: preprocess.unit_key(sample, made_by) for sample in samples}
    files: dict[str, tuple[Path, ...]] = {}
    refused: dict[str, str] = {}
    with TemporaryDirectory() as scratch:
        store = ClipStore(Path(scratch))
        work = preprocess.jobs(samples, keys, ())
        for job, outcomes in LocalEngine(workers).run(preprocess.Preprocessor(Path(scratch), config), work):
            if isinstance(outcomes, WorkerDied):
                refused |= dict.fromkeys(job.keys, str(outcomes))
                continue
            for outcome in outcomes:
                if outcome.clip is None:
                    refused[outcome.key] = outcome.message
                    continue
                clip = store.load(outcome.clip)
                files[outcome.key] = _write(folder, outcome.key, (clip.frames[i] for i in shown_frames(clip)))
    found = {name: Shown(files[key]) for name, key in keys.items() if key in files}
    return Pictures(found, {name: refused[key] for name, key in keys.items() if key in refused})


def _write(folder: Path, stem: str, frames: Iterable[np.ndarray]) -> tuple[Path, ...]:
    """PNG files, without loss."""
    paths = []
    for number, frame in enumerate(frames):
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        paths.append(folder / f"{stem[:20]}-{number}.png")
        write_atomic(paths[-1], buffer.getvalue())
    return tuple(paths)
