"""Makes transformers' Auto classes know our model, without importing transformers before anybody else does.

``transformers`` offers no entry point for this. So: when it is already loaded, register at once; otherwise watch
for its import and register right after it, when nothing of it is half-loaded.

Their processor is given pictures; it lies below the folder that finds faces in them, so it asks here for who does.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facellava.face import OneFace
    from facellava.model.experts import ExpertEncoder
    from facellava.types import Crop

__all__ = ["face_encoder", "face_reader", "install", "register"]

_WATCHED = "transformers"


def register() -> None:
    """Call ``facellava.model.register``; without torch there is nothing to register."""
    if any(_half_loaded(name) for name in list(sys.modules)):
        return  # a module of our own brought transformers in; it is followed by a second call
    try:
        importlib.import_module("facellava.model").register()
    except ImportError:
        return


def _half_loaded(name: str) -> bool:
    """Whether this is a module of our model whose import is under way (importlib's own mark of it)."""
    if not name.startswith("facellava.model."):
        return False
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


class _AfterLoad(Loader):
    """Loads as the wrapped loader does, then registers."""

    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        register()

    def __getattr__(self, name: str) -> object:
        # resource readers and the like belong to the wrapped loader
        return getattr(self._inner, name)


class _Watcher(MetaPathFinder):
    """Lets the other finders find transformers, and has its loading followed by the registration.

    Stays in place: libraries look for transformers without loading it, only to know whether it is there.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _WATCHED:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _AfterLoad(spec.loader)
                return spec
        return None


def face_reader(margin: float, crop: Crop) -> OneFace:
    """What finds the face that a chat is about, with the front end that ``Analyzer`` uses."""
    from facellava import weights
    from facellava.face import FaceFrontEnd, OneFace

    return OneFace(FaceFrontEnd(weights.resolve, margin=margin, crop=crop))


def face_encoder() -> ExpertEncoder:
    """The face experts, for models that look through them."""
    from facellava import weights
    from facellava.model.experts import ExpertEncoder

    return ExpertEncoder(weights.resolve)


def install() -> None:
    """Register now or as soon as transformers is imported."""
    if _WATCHED in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _Watcher())
