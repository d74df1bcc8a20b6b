"""A folder that vLLM serves, out of a converted or trained one: the same weights beside what vLLM reads of a model.

New are two words of the tokenizer, the chat template, the ends of an answer, and the class of the language model.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from facellava.errors import FileMissing, UsageError
from facellava.model.layouts.source import open_source, read_json
from facellava.model.layouts.write import whole_folder
from facellava.model.processing import CONFIG_FILE, FaceLlavaProcessor
from facellava.vllm_plugin import ARCHITECTURE
from facellava.vllm_plugin.inputs import input_names
from facellava.vllm_plugin.prompts import FACE, FACE_ID, PIECE, chat_template, visual_ids, without_pieces

__all__ = ["check_prompts", "prepare", "prompt_ids"]

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
_PROBES: Sequence[Sequence[str]] = (
    ("What is the mouth doing?",),
    (" Two  spaces, a\nline and ünïcödé ", "Yes.\n", "And now?"),
    ("1", "", "</s> or <|im_end|> inside", "Smiling 😀", "Why"),
)
"""Conversations by turns, with what tokenizers treat specially at the borders of texts."""


def prepare(source: Path, target: Path) -> Path:
    """Write the folder that is served. Weights are linked where the file system can, else copied.

    Args:
        source: written by ``facellava convert`` or by a run.
        target: a folder that is not there yet; it appears when it is whole.

    Raises:
        FileMissing: the source is no such folder. UsageError: a model that vLLM cannot serve, or the target is there.
    """
    if not (source / "config.json").is_file() or not (source / CONFIG_FILE).is_file():
        raise FileMissing(f"{source} holds no model with its processor: give a folder of facellava convert or of a run")
    processor = FaceLlavaProcessor.from_pretrained(source)
    input_names(processor.config)  # refuses models that look through experts
    config = _config(source, processor)
    files = sorted({entry.file for entry in open_source(source).entries.values()})
    with whole_folder(target) as partial:
        face = _write_tokenizer(processor, partial)
        check_prompts(partial, processor)
        _write(partial / "config.json", {**config, FACE_ID: face})
        _write(partial / "generation_config.json", _generation(source, processor))
        shutil.copyfile(source / CONFIG_FILE, partial / CONFIG_FILE)
        for name in [*files, *(path.name for path in source.glob("*.index.json"))]:
            _link(source / name, partial / name)
    return target


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Any]) -> list[int]:
    """Ids of a conversation as vLLM makes them, before it puts the visual tokens in; seams are gone."""
    text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    return without_pieces(tokenizer.encode(text, add_special_tokens=False), _id(tokenizer, PIECE))


def check_prompts(folder: Path, processor: FaceLlavaProcessor) -> None:
    """Compare the served tokenizer's prompts with the processor's, for a picture and a video.

    Raises:
        UsageError: they differ, so that the model would read other prompts than it was trained on.
    """
    served = AutoTokenizer.from_pretrained(folder)
    face, config = _id(served, FACE), processor.config
    for kind, frames in (("image", 1), ("video", config.vision.sampled_frames(10**6))):
        place = visual_ids(processor._tokenize, config, processor.style, frames, face)
        for turns in _PROBES:
            roles = [("user", "assistant")[i % 2] for i in range(len(turns))]
            plain = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=True)]
            first = {"role": "user", "content": [{"type": kind}, {"type": "text", "text": turns[0]}]}
            found = prompt_ids(served, [first, *plain[1:]])
            at = found.index(face)
            found[at : at + 1] = place
            expected = processor.render(plain, frames, training=False).ids
            if [config.image_token_id if i == face else i for i in found] != expected:
                raise UsageError(
                    f"the tokenizer in {folder.name} splits a prompt in one string otherwise than piece by piece "
                    f"({turns[0]!r}): this model cannot be served by vLLM"
                )


def _config(source: Path, processor: FaceLlavaProcessor) -> dict[str, Any]:
    config = read_json(source / "config.json")
    kind = processor.config.text_config.model_type
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UsageError(f"transformers knows no class for a language model of type '{kind}'")
    config["text_config"] = {**config["text_config"], "architectures": [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]]}
    return {**config, "architectures": [ARCHITECTURE]}


def _generation(source: Path, processor: FaceLlavaProcessor) -> dict[str, Any]:
    """What the folder says, with all ends of an answer: the language model's, and the style's."""
    known = read_json(source / "generation_config.json")
    eos = processor.config.text_config.eos_token_id
    ends = {eos} if isinstance(eos, int) else set(eos or ())
    closing = processor._tokenize(processor.style.after_assistant.strip())
    return {**known, "eos_token_id": sorted(ends | set(closing[:1]))}


def _write_tokenizer(processor: FaceLlavaProcessor, folder: Path) -> int:
    """The tokenizer with two more words, which are cut out of a text before anything else happens to it.

    Returns:
        The id of ``FACE``.
    """
    own = processor.tokenizer
    backend = getattr(own, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UsageError("the tokenizer has no form as tokenizer.json, which vLLM would need here")
    if taken := {FACE, PIECE} & own.get_vocab().keys():
        raise UsageError(f"the tokenizer has the word {min(taken)} already: give the folder that this one was made of")
    served = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(_every_piece_first(json.loads(backend.to_str())))),
        clean_up_tokenization_spaces=False,
        **{name: word for name in _NAMED if (word := getattr(own, name, None)) is not None},
    )
    words = [AddedToken(word, special=True, normalized=False, lstrip=False, rstrip=False) for word in (FACE, PIECE)]
    served.add_tokens(words, special_tokens=True)
    served.chat_template = chat_template(processor.style)
    served.save_pretrained(folder)
    return _id(served, FACE)


def _every_piece_first(value: Any) -> Any:
    """A tokenizer.json in which a text behind a special token opens with a space as the first one does.

    LLaMA's opens the first text only; of a conversation in pieces, every piece is one.
    """
    if isinstance(value, dict):
        value = {name: _every_piece_first(inner) for name, inner in value.items()}
        return {**value, "prepend_scheme": "always"} if value.get("prepend_scheme") == "first" else value
    return [_every_piece_first(inner) for inner in value] if isinstance(value, list) else value


def _id(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    found = tokenizer.convert_tokens_to_ids(word)
    assert isinstance(found, int)
    return found


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
