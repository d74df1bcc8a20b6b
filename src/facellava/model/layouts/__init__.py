"""Checkpoints of others as models of ours and back: their layouts, strict reading, conversion. Needs torch.

``known.LAYOUTS`` lists the layouts; docs/checkpoints.md says what each keeps and drops.
"""

from .convert import Loaded, Options, convert, inspect, load_model
from .known import LAYOUTS, WRITABLE, detect, named
from .layout import Layout, Passive
from .presets import VICUNA_7B, paper_7b, release_7b
from .profiles import PROFILES, Profile, profile_named
from .report import Report

__all__ = [
    "LAYOUTS",
    "PROFILES",
    "VICUNA_7B",
    "WRITABLE",
    "Layout",
    "Loaded",
    "Options",
    "Passive",
    "Profile",
    "Report",
    "convert",
    "detect",
    "inspect",
    "load_model",
    "named",
    "paper_7b",
    "profile_named",
    "release_7b",
]
