"""Face-LLaVA in the open: describes faces in pictures and videos, and says what the description rests on.

    import facellava
    model = facellava.load()
    result = model.analyze("photo.jpg")
    result.faces[0].expression.label

Importing this package loads neither torch nor transformers; names below are imported when first used. Once it is
imported, transformers' ``AutoConfig``, ``AutoProcessor`` and ``AutoModelForImageTextToText`` know our classes.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from facellava import _autoclasses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from facellava.analyzer import Analyzer, load
    from facellava.errors import FacellavaError
    from facellava.model import FaceLlavaConfig, FaceLlavaForConditionalGeneration, FaceLlavaProcessor
    from facellava.results import FaceResult, MediaResult
    from facellava.timeline import WindowResult

# onnxruntime (from 1.29 on) reports to its publisher unless this is set before it is loaded; here nothing is sent
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = [
    "Analyzer",
    "FaceLlavaConfig",
    "FaceLlavaForConditionalGeneration",
    "FaceLlavaProcessor",
    "FaceResult",
    "FacellavaError",
    "MediaResult",
    "__version__",
    "analyze",
    "ask",
    "demo",
    "load",
    "watch",
]

_HOME = {
    "Analyzer": "facellava.analyzer",
    "FaceLlavaConfig": "facellava.model",
    "FaceLlavaForConditionalGeneration": "facellava.model",
    "FaceLlavaProcessor": "facellava.model",
    "FaceResult": "facellava.results",
    "FacellavaError": "facellava.errors",
    "MediaResult": "facellava.results",
    "load": "facellava.analyzer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'facellava' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name]), name)
    if _HOME[name] == "facellava.model":
        _autoclasses.register()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@cache
def _default() -> Analyzer:
    from facellava.analyzer import load

    return load()


def analyze(source: str | Path, **options: Any) -> MediaResult:
    """Every face and every task of one picture or video, with the default model, which is loaded once.

    Options and errors are those of :meth:`facellava.Analyzer.analyze`.
    """
    return _default().analyze(source, **options)


def ask(source: str | Path, question: str, **options: Any) -> str | Iterator[str]:
    """The default model's answer to a question about a picture or video; pieces of it with ``stream=True``.

    Options and errors are those of :meth:`facellava.Analyzer.ask`.
    """
    return _default().ask(source, question, **options)


def watch(source: str | Path, **options: Any) -> Iterator[WindowResult]:
    """What each face of a video of any length displays, window by window, with the default model.

    Options and errors are those of :func:`facellava.timeline.watch`, which takes any model.
    """
    from facellava.timeline import watch as watched

    return watched(_default(), source, **options)


def demo(**options: Any) -> str:
    """A Gradio page around the default model, on this machine only (extra ``gradio``); gives its address.

    Options and errors are those of :func:`facellava.gradio_app.demo`, which takes any model.
    """
    from facellava.gradio_app import demo as page

    return page(_default(), **options)


_autoclasses.install()
