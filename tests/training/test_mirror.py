"""The mirror image of a face: what is left becomes right, and the front end sees the same in a mirrored picture."""

from __future__ import annotations

import numpy as np

from default_model import astronaut, require_weights
from facellava import weights
from facellava.face import FaceFrontEnd, blendshape_names, largest, read_media
from facellava.model.regions import REGIONS
from facellava.training.mirror import Look, mirrored, mirrored_blendshapes, mirrored_points


def test_twice_mirrored_is_the_face_itself() -> None:
    rng = np.random.default_rng(0)
    look = Look(
        rng.integers(0, 256, (8, 6, 3), np.uint8),
        rng.random((68, 2), np.float32),
        rng.random(52, np.float32),
    )
    again = mirrored(mirrored(look))
    assert np.array_equal(again.pixels, look.pixels) and np.array_equal(again.blendshapes, look.blendshapes)
    assert np.allclose(again.landmarks, look.landmarks, atol=1e-6)


def test_regions_and_coefficients_change_sides() -> None:
    sides = {"right_brow": "left_brow", "left_brow": "right_brow", "right_eye": "left_eye", "left_eye": "right_eye"}
    by_name = {region.name: region for region in REGIONS}
    for region in REGIONS:
        other = by_name[sides.get(region.name, region.name)]
        taken = sorted(mirrored_points()[region.start : region.stop])
        assert taken == list(range(other.start, other.stop)), region.name
    names = blendshape_names()
    swapped = {name: names[k] for name, k in zip(names, mirrored_blendshapes(), strict=True)}
    assert swapped["eyeBlinkLeft"] == "eyeBlinkRight" and swapped["mouthLeft"] == "mouthRight"
    assert swapped["jawOpen"] == "jawOpen" and sum(a != b for a, b in swapped.items()) == 40


def test_a_mirrored_picture_shows_the_mirrored_face() -> None:
    require_weights()
    front, picture = FaceFrontEnd(weights.resolve), astronaut()
    clip = largest(front.clips(read_media(picture)))
    other = largest(front.clips(read_media(np.ascontiguousarray(picture[:, ::-1]))))
    turned = mirrored(Look(clip.frames[0], clip.landmarks[0], clip.blendshapes[0]))
    # a crop may lie a little elsewhere, so shapes are compared
    own, seen, plain = (p - p.mean(0) for p in (turned.landmarks, other.landmarks[0], clip.landmarks[0]))
    assert np.abs(own - seen).max() < 0.03
    assert np.abs(own - seen).mean() < 0.5 * np.abs(plain - seen).mean(), "the face is not its own mirror image"
