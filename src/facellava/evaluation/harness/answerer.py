"""A model of ours for harnesses that hand over pictures and a question: whole frames in, words out.

The face is found and landmarked here, by the same path that the command line takes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from facellava.analyzer import Analyzer, load
from facellava.answers import reason_to_abstain
from facellava.errors import UsageError
from facellava.evaluation.respondents.base import DEFAULT
from facellava.runtime.engine import Seen

MAX_TOKENS = 256


class Answerer:
    """Answers about the largest face of a picture, of a video, or of frames of one.

    Args:
        model: ``default`` or the folder of a trained model. threads: 0 for the default number.

    Raises:
        FacellavaError: as ``facellava.load``.
    """

    def __init__(self, model: str = DEFAULT, threads: int = 0) -> None:
        self.model: Analyzer = load(None if model == DEFAULT else model, threads=threads or None, progress=False)
        self._last: tuple[Hashable, Seen | None] | None = None

    def answer(
        self,
        visuals: Sequence[Any],
        question: str,
        *,
        max_new_tokens: int = MAX_TOKENS,
        stop: Sequence[str] = (),
        key: Hashable = None,
    ) -> str:
        """Words; "" about a face that this program would not judge.

        Args:
            visuals: one picture (PIL or uint8 array) or path, or the frames of a video in order.
            stop: texts that end the answer. key: of the visuals; a question with the key of the last reads no face.

        Raises:
            FacellavaError: there is no face, or nothing that can be looked at.
        """
        seen = self._seen(visuals, key)
        if seen is None:
            return ""
        text = "".join(self.model.engine.ask(seen, question.strip(), max_new_tokens=max_new_tokens))
        for end in filter(None, stop):
            text = text.split(end, 1)[0]
        return text.strip()

    def losses(
        self, visuals: Sequence[Any], question: str, candidates: Sequence[str], *, key: Hashable = None
    ) -> list[float]:
        """Negative log-probability of each candidate as the whole answer, among the candidates.

        Raises:
            UsageError: fewer than two candidates. FacellavaError: as :meth:`answer`.
        """
        if len(candidates) < 2:
            raise UsageError("a model of ours scores an answer against others: give two or more candidates")
        seen = self._seen(visuals, key)
        if seen is None:
            return [float(np.log(len(candidates)))] * len(candidates)
        words = [candidate.strip() for candidate in candidates]
        probabilities = self.model.engine.score(seen, question.strip(), "", words)
        return (-np.log(np.maximum(probabilities, 1e-12))).tolist()

    def _seen(self, visuals: Sequence[Any], key: Hashable) -> Seen | None:
        """The face as the model read it, None for one that is too small, too soft or turned away."""
        if key is not None and self._last is not None and self._last[0] == key:
            return self._last[1]
        _, clips = self.model.clips(one_medium(visuals))
        clip = max(clips, key=lambda clip: clip.quality.size)
        seen = None if reason_to_abstain(clip) is not None else self.model.engine.look(clip)
        self._last = key, seen
        return seen


def one_medium(visuals: Sequence[Any]) -> str | np.ndarray:
    """A path, a uint8 (H, W, 3) picture, or the (T, H, W, 3) frames of a video.

    Raises:
        UsageError: nothing to look at, something else than pictures, frames of different sizes, several files.
    """
    if not visuals:
        raise UsageError("the question comes without a picture: a model of ours answers about a face that it sees")
    if len(visuals) == 1 and isinstance(visuals[0], str | Path):
        return str(visuals[0])
    frames = [_pixels(visual) for visual in visuals]
    if len(frames) == 1:
        return frames[0]
    if len({frame.shape for frame in frames}) > 1:
        raise UsageError("the pictures differ in size: several pictures are taken for the frames of one video")
    return np.stack(frames)


def _pixels(visual: Any) -> np.ndarray:
    if isinstance(visual, Image.Image):
        return np.asarray(visual.convert("RGB"))
    if isinstance(visual, np.ndarray) and visual.dtype == np.uint8 and visual.ndim == 3 and visual.shape[-1] == 3:
        return visual
    raise UsageError(f"cannot look at {type(visual).__name__}: give pictures, or the path of one picture or video")
