"""Crops as the official release cuts them: from the box's corner, as wide as the mean of its sides."""

from __future__ import annotations

import numpy as np
import pytest

from facellava.errors import UsageError
from facellava.face import FaceFrontEnd, read_media
from facellava.face.crop import Square, cut_square, square_around


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ([10, 20, 110, 220], 0.0, Square(10, 20, 150)),  # (100 + 200) / 2
        ([10, 20, 210, 120], 0.0, Square(10, 20, 150)),
        ([-7.6, 3.4, 92.4, 103.4], 0.0, Square(-8, 3, 100)),
        ([10, 20, 110, 120], 0.5, Square(10, 20, 150)),
        ([5, 5, 5, 5], 0.0, Square(5, 5, 1)),
    ],
)
def test_squares_start_in_the_corner(box: list[float], margin: float, expected: Square) -> None:
    assert square_around(np.array(box), margin, "corner") == expected


def test_a_real_face(resolve, astronaut: np.ndarray) -> None:
    (clip,) = FaceFrontEnd(resolve, crop="corner").clips(read_media(astronaut))
    x0, y0, x1, y1 = (float(value) for value in clip.boxes[0])
    square = Square(round(x0), round(y0), round((x1 - x0 + y1 - y0) / 2))
    assert clip.crop == "corner"
    assert np.array_equal(clip.frames[0], cut_square(astronaut, square))
    (usual,) = FaceFrontEnd(resolve).clips(read_media(astronaut))
    assert usual.crop == "centred"
    around = square_around(usual.boxes[0])
    in_picture = [c.landmarks[0] * s.side + (s.x, s.y) for c, s in ((clip, square), (usual, around))]
    np.testing.assert_allclose(in_picture[0], in_picture[1], atol=0.01)


def test_another_crop_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown crop 'middle': use 'centred' or 'corner'"):
        FaceFrontEnd(lambda name: name, crop="middle")
