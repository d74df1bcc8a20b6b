"""Named ways to run the official release's checkpoint: what its own inference does, and that with landmarks.

Facts from reading the release (repository ihp-lab/Face-LLaVA, commit acecbec). Its inference gives no landmarks, so
that FRLP and FRGCA are skipped; asks under LLaVA's template ``llava_v1``; writes one placeholder a frame, joined by
spaces; tokenises what stands between placeholders as wholes, behind one mark of a beginning; looks at 8 frames of a
video evenly from first to last; resizes images and videos in two ways and keeps the CLS token of videos; reads crops
that start in the box's corner; and samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from facellava.errors import UsageError
from facellava.model.prompt import PromptStyle

__all__ = ["PROFILES", "RELEASED", "Profile", "profile_named"]

_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
"""What LLaVA and its kin were tuned to read first; without it word for word their answers differ.

Also at https://huggingface.co/docs/transformers/model_doc/llava_next.
"""
RELEASED = PromptStyle(
    before_user="USER: ",
    after_user=" ",
    before_assistant="ASSISTANT:",
    after_assistant="</s>",
    after_visual="\n",
    begin="<s>",
    before_all=_SYSTEM + " ",
    between_frames=" ",
    whole=True,
)
"""The prompts of the release's inference, for LLaMA's tokenizer, which itself opens every piece with a space."""


@dataclass(frozen=True)
class Profile:
    """How a checkpoint is run, as one setting.

    Attributes:
        name: for the command line. title: for people.
        layouts: that it applies to.
        style: of turns.
        changes: of the configuration, as ``Options.changes``.
        generation: what ``generate`` does unless told otherwise.
    """

    name: str
    title: str
    style: PromptStyle
    layouts: tuple[str, ...] = ("official", "official-masked")
    changes: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)

    def over(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The profile's changes with others over them, table by table."""
        both = {**self.changes, **changes}
        tables = {key for key, value in self.changes.items() if isinstance(value, Mapping) and key in changes}
        return both | {key: {**self.changes[key], **changes[key]} for key in tables}


_SEEN = {"crop": "corner", "vision": {"video_cls": True, "pixels": "official", "frames": 8, "temporal": True}}
_SAMPLED = {"do_sample": True, "temperature": 0.1, "max_new_tokens": 1024}
_NO_LANDMARKS = {"kind": "none", "landmarks": "none", "transposed_grid": False}

PROFILES = (
    Profile(
        "release",
        "the release's inference, without landmarks",
        RELEASED,
        changes={**_SEEN, "fusion": _NO_LANDMARKS},
        generation=_SAMPLED,
    ),
    Profile(
        "release-landmarks",
        "the release's inference, given landmarks",
        RELEASED,
        changes=_SEEN,
        generation=_SAMPLED,
    ),
)


def profile_named(name: str) -> Profile:
    """A profile by its name.

    Raises:
        UsageError: there is none of that name.
    """
    found = next((profile for profile in PROFILES if profile.name == name), None)
    if found is None:
        raise UsageError(f"there is no profile '{name}'; known: {', '.join(profile.name for profile in PROFILES)}")
    return found
