"""The layouts that are known, and finding out which one a checkpoint has. A new one is an entry of ``LAYOUTS``.

Sources: names of the release and of the original Video-LLaVA from building the release's classes (repository
ihp-lab/Face-LLaVA, commit acecbec); of the hub's Video-LLaVA and LLaVA from transformers' classes ``VideoLlava*`` and
``Llava*`` and its ``conversion_mapping.py`` (https://github.com/huggingface/transformers); of LanguageBind from its
classes (https://github.com/PKU-YuanGroup/LanguageBind).
"""

from __future__ import annotations

from collections.abc import Iterable

from facellava.errors import DamagedCheckpoint, UsageError
from facellava.model.official_keys import FUSION, PROJECTOR, TOWER, TOWER_LAYER
from facellava.model.regions import REGIONS

from .layout import Layout, Passive

__all__ = ["LAYOUTS", "WRITABLE", "detect", "named"]

LANDMARKS = ("frlp", "frgca")
TOWERS = ("vision_tower.image", "vision_tower.video")
COMPUTED = Passive("computed, not learned", "rotary")
BEHIND = "behind the selected layer: does not reach the features"
COUNTED = Passive("a list of positions, not learned")


def _tower(theirs: str, ours: str) -> dict[str, str]:
    """A tower of CLIP layout; temporal names are of use to video towers only."""
    table = {theirs + key: ours + name for key, name in TOWER.items() if not key.startswith("encoder")}
    layers = {f"{theirs}encoder.layers.#.{key}": f"{ours}layers.#.{name}" for key, name in TOWER_LAYER.items()}
    return table | layers


def _tower_rest(*prefixes: str) -> dict[str, Passive]:
    rest: dict[str, Passive] = {}
    for prefix in prefixes:
        rest[f"{prefix}post_layernorm.weight"] = Passive(BEHIND, "vision", 1.0)
        rest[f"{prefix}post_layernorm.bias"] = Passive(BEHIND, "vision", 0.0)
        rest[f"{prefix}embeddings.position_ids"] = COUNTED
    return rest


_LLAMA = {
    **{f"model.{part}.": f"language_model.model.{part}." for part in ("embed_tokens", "norm", "layers")},
    "lm_head.": "language_model.lm_head.",
}
_ROTARY = {"model.layers.#.self_attn.rotary_emb.inv_freq": COMPUTED}
_IMAGE, _VIDEO = "model.image_tower.image_tower.", "model.video_tower.video_tower."
_ORIGINAL = {
    **_LLAMA,
    **_tower(_IMAGE, "vision_tower.image."),
    **_tower(_VIDEO, "vision_tower.video."),
    **{f"model.mm_projector.{key}": f"projector.{name}" for key, name in PROJECTOR.items()},
}
_ORIGINAL_REST = {**_ROTARY, **_tower_rest(_IMAGE, _VIDEO)}
_ATTENTION = "model.landmarks_cross_attn."
_QKV = tuple(f"cross_attn.{part}_proj." for part in "qkv")


def _release(masked: bool) -> dict[str, str]:
    """The masked class of the release has projections of its own instead of PyTorch's attention with one joined."""
    other = ("cross_attn.attn.out_proj.",) if masked else _QKV
    fusion = {_ATTENTION + key: f"frgca.{name}" for key, name in FUSION.items() if key not in other}
    return {**_BOTH, **fusion}


_BOTH = {
    **_ORIGINAL,
    **{f"model.landmarks_projector.region_layers.{r.official}.": f"frlp.regions.{r.name}." for r in REGIONS},
    "model.global_landmarks_projector.": "frlp.whole.",
}
_RELEASE_REST = {
    **_ORIGINAL_REST,
    f"{_ATTENTION}ln.weight": Passive("stored by the release, without effect", "text", 1.0),
    f"{_ATTENTION}ln.bias": Passive("stored by the release, without effect", "text", 0.0),
}
_JOINED = {
    f"{_ATTENTION}cross_attn.attn.in_proj_{kind}": tuple(f"frgca.{part}.{kind}" for part in ("query", "key", "value"))
    for kind in ("weight", "bias")
}
_MARKS_OF_LANDMARKS = r"^model\.(landmarks_projector|global_landmarks_projector|landmarks_cross_attn)\."
_AS_RELEASED = {"video_cls": True, "pixels": "official"}


def _hub(name: str, title: str, memory: bool, inner: str) -> Layout:
    """Video-LLaVA of transformers: ``memory`` names parts as version 5 does while it runs."""
    outer = "model." if memory else ""
    language = "model.language_model." if memory else "language_model.model."
    towers = [f"{outer}{kind}_tower.{inner}" for kind in ("image", "video")]
    projector = f"{outer}multi_modal_projector.linear_"
    mark = outer.replace(".", r"\.")
    lacks = () if inner else (rf"^{mark}image_tower\.vision_model\.",)
    return Layout(
        name,
        title,
        has=(
            rf"^{mark}multi_modal_projector\.",
            rf"^{mark}(image|video)_tower\.{inner.replace('.', chr(92) + '.')}",
            "^" + language.replace(".", r"\."),
        ),
        lacks=lacks,
        names={
            language: "language_model.model.",
            "lm_head." if memory else "language_model.lm_head.": "language_model.lm_head.",
            **_tower(towers[0], TOWERS[0] + "."),
            **_tower(towers[1], TOWERS[1] + "."),
            f"{projector}1.": "projector.first.",
            f"{projector}2.": "projector.second.",
        },
        passive={f"{language}layers.#.self_attn.rotary_emb.inv_freq": Passive(COMPUTED.reason), **_tower_rest(*towers)},
        new=LANDMARKS,
        text="text_config",
        padded=True,
        prefers="vicuna",
        writable=True,
    )


def _languagebind(kind: str, prefix: str) -> Layout:
    mark = prefix.replace(".", r"\.")
    time = r"temporal_"
    rest = {
        name: Passive("of the contrastive model, not of its tower")
        for name in ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
    }
    return Layout(
        f"languagebind-{kind}" if prefix else f"tower-{kind}",
        f"LanguageBind's {kind} tower" + ("" if prefix else ", alone"),
        has=(rf"^{mark}embeddings\.class_embedding$", *([time] if kind == "video" else [])),
        lacks=() if kind == "video" else (time,),
        names=_tower(prefix, f"vision_tower.{kind}."),
        passive={**_tower_rest(prefix), **(rest if prefix else {})},
        new=("language_model", "projector", *LANDMARKS, *(tower for tower in TOWERS if not tower.endswith(kind))),
    )


_NOT_TAKEN = {
    f"{outer}{part}.": Passive("only the language model is taken")
    for outer in ("", "model.")
    for part in ("vision_tower", "multi_modal_projector", "mm_projector", "vision_resampler")
} | {f"{outer}image_newline": Passive("only the language model is taken") for outer in ("", "model.")}
_WITHOUT_EYES = ("projector", *LANDMARKS, *TOWERS)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "ours",
        "this package's own layout",
        has=(r"^projector\.first\.", r"^language_model\."),
        names={part + ".": part + "." for part in ("language_model", "vision_tower", "projector", *LANDMARKS)},
        writable=True,
    ),
    Layout(
        "official",
        "the official release",
        has=(_MARKS_OF_LANDMARKS,),
        lacks=(r"^model\.landmarks_cross_attn\.cross_attn\.[qkv]_proj\.",),
        names=_release(masked=False),
        joined=_JOINED,
        passive=_RELEASE_REST,
        vision=_AS_RELEASED,
        fusion={"kind": "official_simple"},
        prefers="vicuna",
        writable=True,
    ),
    Layout(
        "official-masked",
        "the official release, masked attention",
        has=(_MARKS_OF_LANDMARKS, r"^model\.landmarks_cross_attn\.cross_attn\.[qkv]_proj\."),
        names=_release(masked=True),
        passive=_RELEASE_REST,
        vision=_AS_RELEASED,
        fusion={"kind": "official_masked", "transposed_grid": True},
        prefers="vicuna",
        writable=True,
    ),
    Layout(
        "video-llava",
        "the original Video-LLaVA",
        has=(r"^model\.mm_projector\.", r"^model\.(image|video)_tower\."),
        lacks=(_MARKS_OF_LANDMARKS,),
        names=_ORIGINAL,
        passive=_ORIGINAL_REST,
        new=LANDMARKS,
        prefers="vicuna",
        writable=True,
    ),
    _hub("video-llava-hub", "the hub's Video-LLaVA", False, "vision_model."),
    _hub("video-llava-hub-5", "the hub's Video-LLaVA as transformers 5 saves it", False, ""),
    _hub("video-llava-memory", "the hub's Video-LLaVA as transformers 5 holds it", True, ""),
    _hub("video-llava-memory-4", "the hub's Video-LLaVA as transformers 4.52 holds it", True, "vision_model."),
    Layout(
        "llava",
        "a LLaVA of transformers (its language model)",
        has=(r"^language_model\.", r"^(vision_tower|multi_modal_projector)\."),
        lacks=(r"^projector\.first\.", r"^(image|video)_tower\."),
        names={"language_model.": "language_model."},
        passive={**_NOT_TAKEN, **{f"language_model.{key}": Passive(COMPUTED.reason) for key in _ROTARY}},
        new=_WITHOUT_EYES,
        text="text_config",
    ),
    Layout(
        "llava-memory",
        "a LLaVA as transformers 5 holds it (its language model)",
        has=(r"^model\.language_model\.", r"^model\.(vision_tower|multi_modal_projector)\."),
        lacks=(r"^model\.(image|video)_tower\.",),
        names={"model.language_model.": "language_model.model.", "lm_head.": "language_model.lm_head."},
        passive=_NOT_TAKEN,
        new=_WITHOUT_EYES,
        text="text_config",
    ),
    _languagebind("image", "vision_model."),
    _languagebind("video", "vision_model."),
    _languagebind("image", ""),
    _languagebind("video", ""),
    Layout(
        "causal-lm",
        "a causal language model of transformers, or an original LLaVA's",
        has=(r"embed_tokens\.weight$|\bwte\.weight$|embed_in\.weight$",),
        lacks=(r"^language_model\.", r"^model\.language_model\.", r"_tower\.(image|video)_tower\."),
        names={"": "language_model."},
        passive={**_NOT_TAKEN, **{key: Passive(COMPUTED.reason) for key in _ROTARY}},
        new=_WITHOUT_EYES,
    ),
)
"""Looked through in this order."""

WRITABLE = tuple(layout.name for layout in LAYOUTS if layout.writable)


def named(name: str) -> Layout:
    """A layout by its name.

    Raises:
        UsageError: there is none of that name.
    """
    found = next((layout for layout in LAYOUTS if layout.name == name), None)
    if found is None:
        raise UsageError(f"there is no layout '{name}'; known: {', '.join(layout.name for layout in LAYOUTS)}")
    return found


def detect(keys: Iterable[str], where: str) -> Layout:
    """The layout of a checkpoint, from its keys.

    Raises:
        DamagedCheckpoint: none fits.
    """
    keys = list(keys)
    found = next((layout for layout in LAYOUTS if layout.fits(keys)), None)
    if found is None:
        shown = ", ".join(sorted(keys)[:3]) or "none"
        raise DamagedCheckpoint(f"{where} is of no known layout (its {len(keys)} tensors: {shown}, ...)")
    return found
