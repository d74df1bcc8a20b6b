"""`read_windows`: pieces and single frames of a video, decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from face_helpers import write_video
from PIL import Image

from facellava.errors import DamagedMedia, EmptyFile, FacellavaError, FileMissing, MediaTooLarge, UsageError
from facellava.face import Limits, read_media, read_windows
from facellava.face.windows import Window
from facellava.types import Media


def ramp(count: int) -> list[np.ndarray]:
    """Frames whose brightness tells their number, of a size that decoders like."""
    return [np.full((64, 96, 3), 5 * i, np.uint8) for i in range(count)]


def numbers(media: Media | FacellavaError) -> list[int]:
    assert isinstance(media, Media), media
    return np.rint(np.asarray(media.frames)[:, 32, 48].mean(axis=1) / 5).astype(int).tolist()


def pieces(path: Path, windows: list[Window], **limits: int) -> list[tuple[Window, Media | FacellavaError]]:
    return list(read_windows(path, windows, limits=Limits(**limits)))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_windows_hold_the_frames_that_read_media_shows_there(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_video(tmp_path / name, ramp(50), codec=codec)
    whole = read_media(path, max_frames=50)
    windows: list[Window] = [(0.0, 0.4), (0.4, 0.8), (1.2, 2.0)]
    found = pieces(path, windows)
    assert [window for window, _ in found] == windows
    assert [numbers(media) for _, media in found] == [list(range(10)), list(range(10, 20)), list(range(30, 50))]
    last = found[-1][1]
    assert isinstance(last, Media) and last.kind == "video"
    assert last.times.tolist() == whole.times[30:].tolist()
    assert (last.sha256, last.fps, last.duration) == (whole.sha256, whole.fps, whole.duration)
    assert all((a == b).all() for a, b in zip(last.frames, list(whole.frames)[30:], strict=True))


def test_everything_and_single_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", ramp(30))
    ((_, media),) = pieces(path, [None])
    assert numbers(media) == list(range(30)), "all of them, not a sample"
    found = pieces(path, [0, 7, 8, 29, 30])
    assert [numbers(media) for _, media in found[:4]] == [[0], [7], [8], [29]]
    assert all(isinstance(media, Media) and media.kind == "image" for _, media in found[:4])
    beyond = found[4][1]
    assert isinstance(beyond, DamagedMedia) and "frame 30" in str(beyond)


def test_a_picture_is_one_window(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((40, 50, 3), 200, np.uint8)).save(path)
    ((window, media),) = pieces(path, [None])
    assert window is None and isinstance(media, Media) and media.kind == "image"
    with pytest.raises(UsageError, match="is a picture"):
        pieces(path, [(0.0, 3.0)])


def test_what_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", ramp(50), key_every=5)
    data = path.read_bytes()
    (tmp_path / "nothing.mp4").write_bytes(b"")
    short = tmp_path / "short.mkv"
    short.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(DamagedMedia, match="cut off"):
        pieces(short, [(0.0, 0.4)])
    with pytest.raises(EmptyFile):
        pieces(tmp_path / "nothing.mp4", [None])
    with pytest.raises(FileMissing, match="check the path"):
        pieces(tmp_path / "gone.mp4", [None])


def test_a_window_over_the_limit_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", ramp(40))
    frame = 64 * 96 * 3 // 2
    found = pieces(path, [(0.0, 1.0), (1.0, 1.2)], max_memory=6 * frame)
    assert isinstance(found[0][1], MediaTooLarge) and "shorter windows" in str(found[0][1])
    assert numbers(found[1][1]) == [25, 26, 27, 28, 29]


def test_damage_in_the_middle_costs_the_windows_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg hides most damage; its decoder is made to give up as it does on a lost disk."""
    from av.error import InvalidDataError

    from facellava.face import windows

    path = write_video(tmp_path / "a.mp4", ramp(50))
    intact = windows.timed

    def failing(container, stream):
        for number, found in enumerate(intact(container, stream)):
            if number == 22:
                raise InvalidDataError(1, "Invalid data found when processing input")
            yield found

    monkeypatch.setattr(windows, "timed", failing)
    found = pieces(path, [(0.0, 0.4), (0.4, 0.8), (0.8, 1.2), (1.2, 2.0)])
    assert [numbers(media) for _, media in found[:2]] == [list(range(10)), list(range(10, 20))]
    for _, error in found[2:]:
        assert isinstance(error, DamagedMedia) and "Invalid data" in str(error) and str(path) in str(error)
