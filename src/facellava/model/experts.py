"""Frozen face experts as a vision encoder: what small pretrained networks see in a crop, in one spatial frame.

No torch here: the same code feeds training, the torch model and the ONNX runtime. For every frame the encoder gives

* ``maps`` (49, C): features of the expression network (facex), of the age network and of CLIP resampled to a 7 x 7
  grid over the *crop*, with noise statistics of the pixels themselves, so that token ``row * 7 + column`` is the patch
  centred at ``((column + 0.5) / 7, (row + 0.5) / 7)``, which is what the region-patch proximity mask (eq. 5) assumes;
* ``values`` (E,): the experts' own outputs, the blendshapes and the aligned landmarks, read by the calibrated head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from facellava.interrupt import poll
from facellava.model import clip_network
from facellava.model.clip_network import ClipNetwork
from facellava.model.prepared import prepared
from facellava.model.regions import patch_centroids

GRID = 7
N_PATCHES = GRID * GRID
CROP = 256

FACEX_LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
FER_LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
_FACEX_MAP = "block_15_add/add"
_AGE_MAP, _AGE_PREPARED = "layer_22_relu", "age-v1-map-1.onnx"
_AGE_MEANS = np.array([122.781998, 117.000999, 104.297997], np.float32)
_AGE_BINS = (0, 4, 10, 16, 22, 28, 34, 40, 46, 52, 58, 64, 70, 81)

# Five reference points of dlib's face chips (outer and inner eye corners, nose base) in the unpadded unit square, and
# the iBUG-68 points that they correspond to.
_CHIP_POINTS = np.array(
    [[0.8596, 0.2135], [0.6461, 0.2290], [0.1206, 0.2137], [0.3341, 0.2291], [0.4901, 0.6278]], np.float32
)
_CHIP_LANDMARKS = (45, 42, 36, 39, 33)

WIDTHS = {"facex": 160, "age": 128, "pixels": 8, "clip": clip_network.WIDTH}
MAP_WIDTH = sum(WIDTHS.values())
VALUE_SIZES = {
    "facex": 7,
    "fer": 7,
    "age_bins": len(_AGE_BINS) - 1,
    "age_moments": 2,
    "gender": 1,
    "blendshapes": 52,
    "landmarks": 136,
    "pixels": 16,
    "clip": clip_network.EMBEDDING,
}
N_VALUES = sum(VALUE_SIZES.values())
WEIGHTS = ("facex-expression", "fer-expression", "age-v1", "gender-v1", "clip-vit-b16")


class ExpertFeatures(NamedTuple):
    """maps float32 (T, 49, C), values float32 (T, E)."""

    maps: NDArray[np.float32]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Chip:
    """A levelled square cut out of the crop: pixels and the affine map from crop pixels to unit chip coordinates."""

    image: np.ndarray
    to_unit: NDArray[np.float32]


def similarity(source: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least-squares rotation, scale and shift (2, 3) from source to target points (n, 2) (Umeyama, 1991)."""
    mean_s, mean_t = source.mean(0), target.mean(0)
    centred_s, centred_t = source - mean_s, target - mean_t
    u, d, vt = np.linalg.svd(centred_t.T @ centred_s)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / max((centred_s**2).sum(), 1e-9)
    matrix = scale * rotation
    return np.hstack([matrix, (mean_t - matrix @ mean_s)[:, None]]).astype(np.float32)


def _chip(crop: NDArray[np.uint8], points: NDArray[np.float32], size: int, padding: float) -> _Chip:
    """Cut a levelled chip of ``size`` pixels; ``points`` are the 68 landmarks in crop pixels."""
    reference = (_CHIP_POINTS + padding) / (1 + 2 * padding)
    to_unit = similarity(points[list(_CHIP_LANDMARKS)], reference)
    zoom = np.float32(size) * to_unit
    shrink = float(np.linalg.norm(zoom[:, 0]))
    # Area-like filtering: warpAffine does not antialias, so blur first when the chip is much smaller than the crop.
    source = cv2.GaussianBlur(crop, (0, 0), 0.4 / shrink) if shrink < 0.6 else crop
    image = cv2.warpAffine(source, zoom, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _Chip(image, to_unit)


def _resample(features: NDArray[np.float32], to_unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Read a chip's feature map (h, w, C) at the crop's patch centres: (49, C), zero outside the chip."""
    height, width = features.shape[:2]
    unit = (patch_centroids(GRID).astype(np.float32) * CROP) @ to_unit[:, :2].T + to_unit[:, 2]
    x, y = unit[:, 0] * width - 0.5, unit[:, 1] * height - 0.5
    inside = (unit > -0.5 / width).all(1) & (unit < 1 + 0.5 / width).all(1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]

    def at(yy: NDArray[np.int_], xx: NDArray[np.int_]) -> NDArray[np.float32]:
        return features[np.clip(yy, 0, height - 1), np.clip(xx, 0, width - 1)]

    top = at(y0, x0) * (1 - fx) + at(y0, x0 + 1) * fx
    bottom = at(y0 + 1, x0) * (1 - fx) + at(y0 + 1, x0 + 1) * fx
    return ((top * (1 - fy) + bottom * fy) * inside[:, None]).astype(np.float32)


def _pixel_statistics(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Noise and sharpness of each patch (49, 8): traces that pasting, warping and re-compression leave."""
    luma_chroma = cv2.cvtColor(crop, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    channels = []
    for c in range(3):
        plane = luma_chroma[..., c]
        residual = np.abs(plane - cv2.medianBlur(plane, 3))
        channels += [residual, np.abs(cv2.Laplacian(plane, cv2.CV_32F))]
    grey = luma_chroma[..., 0]
    # Differences across the borders of 8 x 8 blocks against those inside show a shifted JPEG grid.
    horizontal = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    channels += [horizontal, np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2.0))]
    stacked = np.stack([cv2.resize(c, (GRID, GRID), interpolation=cv2.INTER_AREA) for c in channels], -1)
    return np.log1p(stacked).reshape(N_PATCHES, -1).astype(np.float32)


class ExpertEncoder:
    """The small networks of ``WEIGHTS`` behind one call.

    Args:
        resolve: weight name -> local path (see ``facellava.weights.resolve``).
        threads: threads a network may use.
    """

    map_width = MAP_WIDTH
    n_values = N_VALUES

    def __init__(self, resolve: Callable[[str], Path], *, threads: int = 1) -> None:
        self._facex = _LiteRTNetwork(resolve("facex-expression"), threads, keep_inside=True)
        self._fer = _LiteRTNetwork(resolve("fer-expression"), threads)
        self._age = _onnx_session(_with_map(resolve("age-v1")), threads)
        self._gender = _onnx_session(resolve("gender-v1"), threads)
        self._clip = ClipNetwork(resolve("clip-vit-b16"), threads, GRID)

    def encode(
        self,
        frames: NDArray[np.uint8],
        landmarks: NDArray[np.float32],
        blendshapes: NDArray[np.float32],
    ) -> ExpertFeatures:
        """Features of a clip: frames (T, 256, 256, 3) RGB, landmarks (T, 68, 2) in [0, 1], blendshapes (T, 52).

        Raises what ``interrupt.poll`` raises, between two frames.
        """
        rows = []
        for item in zip(frames, landmarks, blendshapes, strict=True):
            poll()
            rows.append(self._frame(*item))
        return ExpertFeatures(np.stack([r[0] for r in rows]), np.stack([r[1] for r in rows]))

    def _frame(
        self, crop: NDArray[np.uint8], landmarks: NDArray[np.float32], blendshapes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        points = landmarks * CROP
        facex, facex_map = self._run_facex(_chip(crop, points, 200, 0.2))
        age, age_map = self._run_age(_chip(crop, points, 64, 0.2))
        fer = self._run_fer(_chip(crop, points, 64, 0.15))
        gender = self._run_gender(_chip(crop, points, 32, 0.25))
        clip = self._clip(crop)
        pixels = _pixel_statistics(crop)
        expected = float(age @ np.arange(81))
        spread = float(np.sqrt(max(age @ (np.arange(81) - expected) ** 2, 0.0)))
        bins = np.add.reduceat(age, _AGE_BINS[:-1])
        aligned = np.hstack([points, np.ones((68, 1), np.float32)]) @ _chip_matrix(points).T
        inner = pixels.reshape(GRID, GRID, -1)[2:6, 2:5].mean((0, 1))
        outer = (pixels.sum(0) - inner * 12) / (N_PATCHES - 12)
        values = [
            _log_odds(facex),
            _log_odds(fer),
            bins,
            np.array([expected / 100, spread / 20]),
            gender[1:] - 0.5,
            blendshapes,
            (aligned - 0.5).reshape(-1),
            inner,
            inner - outer,
            clip.picture,
        ]
        maps = np.concatenate([facex_map, age_map, pixels, clip.patches.reshape(N_PATCHES, -1)], -1)
        return maps.astype(np.float32), np.concatenate(values).astype(np.float32)

    def _run_facex(self, chip: _Chip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        output, inside = self._facex(chip.image[None].astype(np.float32) / np.float32(255), _FACEX_MAP)
        return output[0], _resample(inside[0] / 4.0, chip.to_unit)

    def _run_fer(self, chip: _Chip) -> NDArray[np.float32]:
        grey = cv2.cvtColor(chip.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        output, _ = self._fer((grey / np.float32(127.5) - 1)[None, ..., None].astype(np.float32))
        order = [FER_LABELS.index(label) for label in FACEX_LABELS]
        return output[0][order]

    def _run_age(self, chip: _Chip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        image = (chip.image.astype(np.float32) - _AGE_MEANS) / 256
        probabilities, inside = self._age.run(None, {"images": image.transpose(2, 0, 1)[None]})
        return probabilities[0], _resample(inside[0].transpose(1, 2, 0), chip.to_unit)

    def _run_gender(self, chip: _Chip) -> NDArray[np.float32]:
        image = (chip.image.astype(np.float32) - _AGE_MEANS) / 256
        return self._gender.run(None, {"images": image.transpose(2, 0, 1)[None]})[0][0]


class Opinions(NamedTuple):
    """What the networks say by themselves, mean over frames: probabilities (7,) as ``FACEX_LABELS``, and years."""

    facex: NDArray[np.float64]
    fer: NDArray[np.float64]
    years: float


def opinions(values: NDArray[np.float32]) -> Opinions:
    """The networks' own outputs out of an encoder's ``values`` (T, E)."""
    ends = np.cumsum(list(VALUE_SIZES.values()))
    parts = dict(zip(VALUE_SIZES, np.split(values.astype(float), ends[:-1], axis=1), strict=True))
    each = []
    for name in ("facex", "fer"):
        p = np.exp(4.0 * parts[name])  # undoes _log_odds but for the clipping
        each.append((p / p.sum(1, keepdims=True)).mean(0))
    return Opinions(each[0], each[1], float(parts["age_moments"][:, 0].mean()) * 100)


def _chip_matrix(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return similarity(points[list(_CHIP_LANDMARKS)], (_CHIP_POINTS + 0.25) / 1.5)


def _log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centred log-probabilities, clipped: a network's certainty without its saturation."""
    logs = np.log(np.clip(probabilities, 1e-4, 1.0))
    return (logs - logs.mean()) / 4.0


class _LiteRTNetwork:
    """One LiteRT model; ``keep_inside`` makes interior tensors readable by name.

    Without the default delegates: they would fuse interior tensors away, and print a line on standard error.
    """

    def __init__(self, path: Path, threads: int, *, keep_inside: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._net = Interpreter(
            str(path),
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=keep_inside,
        )
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._output = self._net.get_output_details()[0]["index"]
        self._names = {d["name"]: d["index"] for d in self._net.get_tensor_details()}

    def __call__(self, x: NDArray[np.float32], inside: str = "") -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self._net.set_tensor(self._input, x)
        self._net.invoke()
        output = self._net.get_tensor(self._output)
        if not inside:
            return output, output
        index = next(i for name, i in self._names.items() if name.endswith(inside))
        return output, self._net.get_tensor(index)


def _onnx_session(path: Path, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options)


def _with_map(path: Path) -> Path:
    """The age network in the cache, with the map inside it as a second output."""

    def make() -> bytes:
        import onnx  # here: it is needed once

        model = onnx.load(str(path))
        model.graph.output.append(onnx.helper.make_tensor_value_info(_AGE_MAP, onnx.TensorProto.FLOAT, None))
        return model.SerializeToString()

    return prepared(_AGE_PREPARED, make)
