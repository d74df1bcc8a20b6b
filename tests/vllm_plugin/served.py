"""Tiny folders to be served, and tokenizers of the kinds that language models have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from model_helpers import TINY_VISION, byte_tokenizer, tiny_config
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.model.prompt import CHATML, PromptStyle

SPACE = "▁"
MERGES = [(SPACE, "U"), (SPACE, "A"), (SPACE, SPACE), ("i", "s"), (SPACE, "W")]


def llama_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Characters, some merges and byte fallback, with LLaMA's marks.

    Args:
        kind: ``prepend``: a normaliser opens every text with a space (files of LLaMA 2 and Vicuna); ``always`` and
            ``first``: a pre-tokenizer does, the latter at the beginning only (as transformers 5 builds it).
    """
    words = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), SPACE]
    words += [chr(i) for i in range(33, 127)] + ["".join(pair) for pair in MERGES]
    vocabulary = {word: i for i, word in enumerate(words)}
    inner = Tokenizer(models.BPE(vocabulary, MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if kind == "prepend":
        inner.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, prepend_scheme=kind, split=False)
    inner.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    inner.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in words[:3]])
    marks = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, clean_up_tokenization_spaces=False, **marks)


def tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """One of ``bytes``, ``prepend``, ``always``, ``first``."""
    return byte_tokenizer() if kind == "bytes" else llama_tokenizer(kind)


def folder(path: Path, kind: str = "bytes", style: PromptStyle = CHATML, **parts: Any) -> Path:
    """A trained folder with a vocabulary as large as its tokenizer's, as Vicuna's is."""
    words = tokenizer(kind)
    torch.manual_seed(0)
    parts = {"vision": TINY_VISION, "image_token_id": len(words), **parts}
    config = tiny_config(**parts, text={"vocab_size": len(words), "eos_token_id": words.eos_token_id})
    FaceLlavaForConditionalGeneration(config).save_pretrained(path)
    FaceLlavaProcessor(words, config, style).save_pretrained(path)
    return path
