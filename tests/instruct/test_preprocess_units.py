"""Preprocessing: which part of which medium a sample looks at, what is stored of it, what is refused and why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
from build_world import portrait, video
from PIL import Image

from facellava import weights
from facellava.errors import WeightsUnavailable
from facellava.face.crop import cut_square, square_around
from facellava.instruct import preprocess
from facellava.instruct.clipstore import ClipStore
from facellava.instruct.recipe import PreprocessConfig
from facellava.instruct.sources.base import chunks
from facellava.types import Sample


@pytest.fixture(autouse=True, scope="module")
def networks() -> None:
    try:
        for name in preprocess.NETWORKS:
            weights.resolve(name, offline=True)
    except WeightsUnavailable as error:
        pytest.skip(f"needs the networks of the front end ({error})")


def sample(media: Path, name: str = "a", **changes: object) -> Sample:
    kind = "image" if media.suffix == ".png" else "video"
    plain = Sample(f"folder/{name}", "folder", "train", "expression", media, kind, "happiness")
    return dataclasses.replace(plain, **changes)


def outcomes(samples: list[Sample], store: Path, config: PreprocessConfig) -> dict[str, preprocess.Outcome]:
    """By sample id."""
    keys = {s.id: preprocess.unit_key(s, preprocess.fingerprint(config)) for s in samples}
    worker = preprocess.Preprocessor(store, config)()
    found = {o.key: o for job in preprocess.jobs(samples, keys, ()) for o in worker(job)}
    return {s.id: found[keys[s.id]] for s in samples}


def two_faces(path: Path) -> Path:
    Image.fromarray(np.concatenate([portrait(0)[:216, :216], portrait(1)[:216, :216]], axis=1)).save(path)
    return path


def test_the_labelled_face_is_the_one_nearest_to_its_box(tmp_path: Path) -> None:
    media = two_faces(tmp_path / "two.png")
    left, right = (
        sample(media, "l", box=(30.0, 20.0, 140.0, 140.0)),
        sample(media, "r", box=(250.0, 20.0, 140.0, 140.0)),
    )
    everyone = PreprocessConfig(policy="all")
    found = outcomes([left, right], tmp_path / "store", everyone)
    store = ClipStore(tmp_path / "store")
    names = [found[s.id].clip for s in (left, right)]
    assert None not in names and names[0] != names[1]
    assert [store.load(name).boxes[0, 0] < 200 for name in names if name] == [True, False]
    refused = outcomes([left], tmp_path / "store", PreprocessConfig(policy="paper"))["folder/l"]
    assert refused.code == "several_faces" and str(media) in refused.message and refused.clip is None


def test_samples_of_one_face_share_its_clip_and_a_changed_file_is_another(tmp_path: Path) -> None:
    media = tmp_path / "a.png"
    Image.fromarray(portrait(0)).save(media)
    one, other = sample(media, "a@expression"), sample(media, "a@age", task="age", label=40)
    config = PreprocessConfig()
    keys = {s.id: preprocess.unit_key(s, preprocess.fingerprint(config)) for s in (one, other)}
    assert len(set(keys.values())) == 1
    (job,) = preprocess.jobs([one, other], keys, ())
    assert len(job.units) == 1
    assert not list(preprocess.jobs([one, other], keys, set(keys.values())))
    Image.fromarray(portrait(3)).save(media)
    assert preprocess.unit_key(one, preprocess.fingerprint(config)) != keys[one.id]
    assert preprocess.fingerprint(config) != preprocess.fingerprint(PreprocessConfig(margin=0.2))


def test_keys_of_centred_crops_are_those_from_before_there_was_a_choice() -> None:
    register = {item.name: item.sha256 for item in weights.default_register()}
    settings = {"policy": "paper", "margin": 0.0, "detect_every": 1}
    parts = [preprocess.CODE_VERSION, settings, [register[name] for name in preprocess.NETWORKS]]
    before = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    assert preprocess.fingerprint(PreprocessConfig()) == before
    assert preprocess.fingerprint(PreprocessConfig(crop="corner")) != before


def test_faces_can_be_cut_from_the_corner(tmp_path: Path) -> None:
    media = tmp_path / "a.png"
    Image.fromarray(portrait(0)).save(media)
    kinds = (PreprocessConfig(), PreprocessConfig(crop="corner"))
    names = [outcomes([sample(media)], tmp_path / "store", config)["folder/a"].clip for config in kinds]
    centred, corner = (ClipStore(tmp_path / "store").load(name) for name in names if name)
    assert (centred.crop, corner.crop) == ("centred", "corner")
    assert np.array_equal(centred.boxes, corner.boxes)
    expected = cut_square(portrait(0), square_around(corner.boxes[0], 0.0, "corner"))
    assert np.abs(corner.frames[0].astype(int) - expected).mean() < 2, "JPEG of the release's square"
    assert np.abs(centred.frames[0].astype(int) - expected).mean() > 5


def test_single_frames_of_a_video_are_pictures(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4", 0)
    frames = [sample(tmp_path / "v.mp4", f"f{n}", frame=n, kind="image") for n in (2, 3, 9, 40)]
    found = outcomes(frames, tmp_path / "store", PreprocessConfig())
    store = ClipStore(tmp_path / "store")
    clips = [found[f.id].clip for f in frames[:3]]
    assert len(set(clips)) == 3 and all(found[f.id].duration == 0 for f in frames[:3])
    lefts = [float(store.load(name).boxes[0, 0]) for name in clips if name]
    assert lefts == sorted(lefts), "the portrait drifts to the right"
    assert found["folder/f40"].code == "damaged_media" and "frame 40" in found["folder/f40"].message


def long_video(path: Path, seconds: int, gone_at: float) -> None:
    """25 frames a second; for half a second there is no face."""
    picture = np.pad(portrait(0)[:216, :216], ((0, 24), (0, 24), (0, 0)), mode="edge")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 240, 240, "yuv420p"
        for t in range(seconds * 25):
            gone = gone_at <= t / 25 < gone_at + 0.5
            pixels = np.full_like(picture, 120) if gone else picture
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode(None))


def test_pieces_of_three_seconds_stand_and_fall_alone(tmp_path: Path) -> None:
    long_video(tmp_path / "long.mp4", 10, gone_at=4.0)
    parts = list(chunks(sample(tmp_path / "long.mp4", "long", task="deepfake", label="fake"), 3.0))
    assert [p.window for p in parts[:2]] == [(0.0, 3.0), (3.0, 6.0)] and [p.id for p in parts][:2] == [
        "folder/long#0",
        "folder/long#1",
    ]
    assert len(parts) == 3 and parts[2].window is not None and parts[2].window[1] == pytest.approx(10, abs=0.1)
    found = outcomes(parts, tmp_path / "store", PreprocessConfig())
    codes = [found[p.id].code for p in parts]
    assert codes == ["", "face_leaves_frame", ""], "the paper drops the piece, not the video"
    store = ClipStore(tmp_path / "store")
    assert [found[p.id].duration for p in parts] == pytest.approx([3.0, 0.0, 4.0], abs=0.1)
    name = found[parts[0].id].clip
    assert name and len(store.load(name).frames) == 75


def test_fewer_looks_of_the_detector_give_nearly_the_same_clip(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4", 0)
    store = ClipStore(tmp_path / "store")
    clips = []
    for every in (1, 5):
        outcome = outcomes([sample(tmp_path / "v.mp4")], tmp_path / "store", PreprocessConfig(detect_every=every))
        name = outcome["folder/a"].clip
        assert name is not None, outcome
        clips.append((name, store.load(name)))
    (first, dense), (second, sparse) = clips
    assert first != second, "another configuration, another key"
    assert np.abs(dense.boxes - sparse.boxes).max() < 6
