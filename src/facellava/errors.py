"""Every error a user can meet: one line that says what is wrong and what to do, a stable code and an exit code.

The table in ``docs/exit-codes.md`` is held equal to this module by a test.
"""

from __future__ import annotations

__all__ = [
    "AddressUnavailable",
    "ApiKeyNeeded",
    "BudgetExceeded",
    "BuildLocked",
    "ConsentNeeded",
    "DamagedCheckpoint",
    "DamagedFile",
    "DamagedMedia",
    "EmptyDataset",
    "EmptyFile",
    "FaceLeavesFrame",
    "FacellavaError",
    "FileMissing",
    "HashMismatch",
    "LabelUnknown",
    "LandmarksFailed",
    "LeakFound",
    "LicenseNotAccepted",
    "MediaTooLarge",
    "MissingExtra",
    "NoFace",
    "NoSpace",
    "OutOfMemory",
    "ProviderFailed",
    "RunMismatch",
    "SeveralFaces",
    "SourceLayout",
    "TooManyBroken",
    "TrainingFailed",
    "UnsupportedMedia",
    "UsageError",
    "WeightsUnavailable",
]

SOME_INPUTS_FAILED = 3
"""Exit code of a run over several inputs in which some, but not all that were asked for, could be analysed."""


class FacellavaError(Exception):
    """A mistake or an obstacle that the user can act on.

    Attributes:
        code: stable identifier, used in JSON output.
        exit_code: process exit status of the command line when this is the only input.
    """

    code = "error"
    exit_code = 1


class UsageError(FacellavaError):
    """The request itself does not make sense (unknown task, bad option value)."""

    code, exit_code = "usage", 2


class FileMissing(FacellavaError):
    """The path does not exist or is not readable."""

    code, exit_code = "file_missing", 10


class UnsupportedMedia(FacellavaError):
    """The bytes are not an image or video that can be decoded, whatever the file is called."""

    code, exit_code = "unsupported_media", 11


class DamagedMedia(FacellavaError):
    """The format is recognised, the content is truncated or corrupt."""

    code, exit_code = "damaged_media", 12


class EmptyFile(FacellavaError):
    """The file has no bytes."""

    code, exit_code = "empty_file", 13


class MediaTooLarge(FacellavaError):
    """More pixels, frames or bytes than the documented limits; refused before decoding."""

    code, exit_code = "media_too_large", 14


class NoFace(FacellavaError):
    """No face was found anywhere in the medium."""

    code, exit_code = "no_face", 15


class FaceLeavesFrame(FacellavaError):
    """``policy="paper"``: at least one frame of the video shows no face (appendix E.1 drops such clips)."""

    code, exit_code = "face_leaves_frame", 16


class SeveralFaces(FacellavaError):
    """``policy="paper"``: more than one face appears (appendix E.1 drops such clips)."""

    code, exit_code = "several_faces", 17


class LandmarksFailed(FacellavaError):
    """Landmarks could not be found in a frame where a face was detected (appendix E.1 drops such clips)."""

    code, exit_code = "landmarks_failed", 18


class WeightsUnavailable(FacellavaError):
    """A weight file is neither local nor obtainable (offline, no index, package without the file)."""

    code, exit_code = "weights_unavailable", 20


class HashMismatch(FacellavaError):
    """A weight file does not have the registered SHA-256."""

    code, exit_code = "hash_mismatch", 21


class NoSpace(FacellavaError):
    """The disk is full or the cache cannot be written."""

    code, exit_code = "no_space", 22


class LicenseNotAccepted(FacellavaError):
    """The weight's licence is not permissive and has not been accepted with ``--accept-license NAME``."""

    code, exit_code = "license_not_accepted", 23


class MissingExtra(FacellavaError):
    """An optional dependency is not installed."""

    code, exit_code = "missing_extra", 24

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs the extra '{extra}': pip install 'facellava[{extra}]'")


class DamagedCheckpoint(FacellavaError):
    """A model's folder is broken or of no known layout, or its tensors are not those that the layout asks for."""

    code, exit_code = "damaged_checkpoint", 25


class OutOfMemory(FacellavaError):
    """The system gave no more memory."""

    code, exit_code = "out_of_memory", 26


class DamagedFile(FacellavaError):
    """A file that this program wrote (records, scores, a dataset) was cut off or changed."""

    code, exit_code = "damaged_file", 27


class SourceLayout(FacellavaError):
    """A dataset's folder lacks a file that its official layout has, or a file of it has another form."""

    code, exit_code = "source_layout", 30


class LabelUnknown(FacellavaError):
    """A dataset's annotation holds a label that its documentation does not name."""

    code, exit_code = "label_unknown", 31


class BudgetExceeded(FacellavaError):
    """The next call would go over the cap on tokens or money; what was paid for is kept."""

    code, exit_code = "budget_exceeded", 32


class ProviderFailed(FacellavaError):
    """A language model service refused, broke off or did not answer, after all retries."""

    code, exit_code = "provider_failed", 33


class ConsentNeeded(FacellavaError):
    """Pictures would leave this machine, and the provider was not named with ``--send-media-to``."""

    code, exit_code = "consent_needed", 34


class BuildLocked(FacellavaError):
    """Another process works on the same build folder."""

    code, exit_code = "build_locked", 35


class EmptyDataset(FacellavaError):
    """Every sample of a build was rejected; the ledger says why."""

    code, exit_code = "empty_dataset", 36


class LeakFound(FacellavaError):
    """Training data holds what a benchmark is tested on, or what its setting forbids."""

    code, exit_code = "leak_found", 40


class TooManyBroken(FacellavaError):
    """More conversations could not be loaded than the recipe allows; each is in ``broken.jsonl`` with its reason."""

    code, exit_code = "too_many_broken", 41


class RunMismatch(FacellavaError):
    """The folder of a run holds another recipe or other data."""

    code, exit_code = "run_mismatch", 42


class TrainingFailed(FacellavaError):
    """Training went wrong numerically; the last checkpoint is kept."""

    code, exit_code = "training_failed", 43


class ApiKeyNeeded(FacellavaError):
    """A server that others can reach was to start without an API key."""

    code, exit_code = "api_key_needed", 50


class AddressUnavailable(FacellavaError):
    """A server cannot listen where it was told to: the port is taken, or the address is not this machine's."""

    code, exit_code = "address_unavailable", 51
