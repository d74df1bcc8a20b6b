"""The tokenizer beside a checkpoint: taken over as it is, without the words that were cut from the vocabulary."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from facellava.errors import DamagedCheckpoint, FileMissing, UsageError
from facellava.model.config import FaceLlavaConfig
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import CHATML, VICUNA, PromptStyle

from .source import read_json

__all__ = ["FILES", "Style", "copy_files", "make_processor", "require_tokenizer"]

Style = Literal["", "vicuna", "chatml"]
FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_WORDS = ("tokenizer.json", "tokenizer.model", "vocab.json")
_TURN = "<|im_end|>"
_CANNOT_OPEN = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError)
"""What transformers raises for a tokenizer that it cannot open; the library of tokenizers raises a bare Exception."""


class _Cut(NamedTuple):
    """Words whose ids lie outside the vocabulary."""

    words: set[str]
    size: int


def copy_files(source: Path, target: Path) -> list[str]:
    """Copy a tokenizer's files as they are; their names."""
    found = [name for name in FILES if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, target / name)
    return found


def make_processor(
    folder: Path, config: FaceLlavaConfig, style: Style | PromptStyle
) -> tuple[FaceLlavaProcessor | None, str]:
    """The processor of a converted model, and a line about its tokenizer; None without a tokenizer.

    Args:
        style: of turns, or its name; empty: ChatML where the tokenizer has its marks, else Vicuna's with the
            tokenizer's own end.

    Raises:
        DamagedCheckpoint: the tokenizer cannot be opened. UsageError: it needs a library that is not installed.
    """
    if not any((folder / name).is_file() for name in _WORDS):
        return None, "none found; without one the folder cannot be trained or asked (--tokenizer DIR)"
    if not (folder / "tokenizer.json").is_file() and (folder / "tokenizer.model").is_file():
        _need_sentencepiece(folder)
    with tempfile.TemporaryDirectory() as staging:
        cut = _stage(folder, Path(staging), config)
        try:
            tokenizer = AutoTokenizer.from_pretrained(staging, local_files_only=True, trust_remote_code=False)
        except Exception as error:
            if type(error) is not Exception and not isinstance(error, _CANNOT_OPEN):
                raise
            raise DamagedCheckpoint(f"the tokenizer in {folder} cannot be opened: {error}") from error
    _pad(tokenizer, config)
    note = f"from {folder}"
    if cut.words:
        note += f", without {', '.join(sorted(cut.words))}"
    if len(tokenizer) > config.text_config.vocab_size:
        raise DamagedCheckpoint(
            f"the tokenizer in {folder} has {len(tokenizer)} words, the model {config.text_config.vocab_size}"
        )
    return FaceLlavaProcessor(tokenizer, config, _style(tokenizer, style)), note


def require_tokenizer(folder: Path) -> Path:
    """The folder itself.

    Raises:
        FileMissing: it holds no tokenizer.
    """
    if not any((folder / name).is_file() for name in _WORDS):
        raise FileMissing(f"{folder} holds no tokenizer ({', '.join(_WORDS)})")
    return folder


def _need_sentencepiece(folder: Path) -> None:
    if find_spec("sentencepiece") is None:
        raise UsageError(
            f"{folder} holds its tokenizer as tokenizer.model only: pip install sentencepiece protobuf, or name a "
            "folder with the same tokenizer as tokenizer.json (--tokenizer DIR)"
        )


def _stage(folder: Path, staging: Path, config: FaceLlavaConfig) -> _Cut:
    """Copies of the files, in which words outside the vocabulary are gone."""
    names = copy_files(folder, staging)
    (staging / "config.json").write_text(json.dumps({"model_type": config.text_config.model_type}), encoding="utf-8")
    cut = _Cut(set(), config.text_config.vocab_size)
    files = {name: read_json(staging / name) for name in names if name.endswith(".json") and name != "vocab.json"}
    cut.words.update(word for content in files.values() for word in _outside(content, cut.size))
    for name, content in files.items():
        content.pop("processor_class", None)
        (staging / name).write_text(json.dumps(_without(content, cut), ensure_ascii=False), encoding="utf-8")
    return cut


def _outside(content: Any, size: int) -> Iterator[str]:
    """Added words with an id of at least ``size``, however a file lists them."""
    added = content.get("added_tokens")
    for item in added if isinstance(added, list) else []:
        if isinstance(item, dict) and item.get("id", 0) >= size:
            yield item["content"]
    for number, item in (content.get("added_tokens_decoder") or {}).items():
        if int(number) >= size:
            yield item["content"]
    for word, number in content.items():
        if type(number) is int and word.startswith("<") and number >= size:
            yield word


def _without(value: Any, cut: _Cut) -> Any:
    """The same JSON value without any mention of the words that were cut."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in cut.words and not _mentions(inner, cut)}
        return {key: _without(inner, cut) for key, inner in kept.items()}
    if isinstance(value, list):
        return [_without(inner, cut) for inner in value if not _mentions(inner, cut)]
    return value


def _mentions(value: Any, cut: _Cut) -> bool:
    word = value.get("content") if isinstance(value, dict) else value
    return isinstance(word, str) and word in cut.words


def _pad(tokenizer: PreTrainedTokenizerBase, config: FaceLlavaConfig) -> None:
    """Padding needs a word that has an embedding; Vicuna pads with its unknown word."""
    known, size = tokenizer.pad_token_id, config.text_config.vocab_size
    if isinstance(known, int) and known < size:
        return
    tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token


def _style(tokenizer: PreTrainedTokenizerBase, style: Style | PromptStyle) -> PromptStyle:
    if isinstance(style, PromptStyle):
        return style
    if style == "chatml" or (not style and _TURN in tokenizer.get_vocab()):
        return CHATML
    if style == "vicuna" or not tokenizer.eos_token:
        return VICUNA
    return PromptStyle(VICUNA.before_user, VICUNA.after_user, VICUNA.before_assistant, str(tokenizer.eos_token))
