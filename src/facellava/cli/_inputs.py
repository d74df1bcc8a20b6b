"""Which files a list of paths, folders and patterns stands for."""

from __future__ import annotations

import errno
import glob
from collections.abc import Iterable
from pathlib import Path

from facellava.errors import FileMissing, UsageError

__all__ = ["expand", "overlay_paths"]

_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}


def _visible(path: Path, root: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _files_of(argument: str) -> list[Path]:
    path = Path(argument)
    try:
        if path.is_dir():
            return sorted(file for file in path.rglob("*") if file.is_file() and _visible(file, path))
        if not path.exists() and glob.has_magic(argument):
            return sorted(Path(found) for found in glob.glob(argument, recursive=True) if Path(found).is_file())
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
    return [path]  # a missing file stays in the list: it is reported like any other that fails


def expand(arguments: Iterable[str]) -> list[Path]:
    """Files in the order given; folders recursively and patterns (``**`` too) sorted, hidden files left out.

    A file that is named twice counts once. Files of folders are taken whatever they are called: what cannot be
    read is reported, not skipped.

    Raises:
        FileMissing: a folder without files, or a pattern that matches nothing. UsageError: an empty argument, which
            would else stand for the whole working folder.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        if not argument:
            raise UsageError("an empty path: name a file, a folder or a pattern ('.' is the working folder)")
        files = _files_of(argument)
        if not files:
            kind = "folder" if Path(argument).is_dir() else "pattern"
            raise FileMissing(f"{argument}: this {kind} has no files")
        for file in files:
            found.setdefault(file.absolute(), file)
    return list(found.values())


def overlay_paths(target: Path | None, inputs: list[Path]) -> list[Path | None]:
    """Where each input's picture goes: the file itself for one input, files in the folder for several.

    Raises:
        UsageError: several inputs and a file name, or a file type that is not a picture.
    """
    if target is None:
        return [None] * len(inputs)
    is_file = target.suffix.lower() in _PICTURES and not target.is_dir()
    if is_file and len(inputs) == 1:
        return [target]
    if is_file:
        raise UsageError(f"--overlay {target}: {len(inputs)} inputs need a folder, not one picture")
    if target.suffix and not target.is_dir():
        raise UsageError(f"--overlay {target}: use one of {', '.join(sorted(_PICTURES))}, or a folder")
    taken: set[str] = set()
    places: list[Path | None] = []
    for path in inputs:
        name, number = path.stem, 2
        while name in taken:
            name, number = f"{path.stem}-{number}", number + 1
        taken.add(name)
        places.append(target / f"{name}-overlay.png")
    return places
