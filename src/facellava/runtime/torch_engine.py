"""Any trained folder as an engine: the same questions and scores as the default's, by torch, on a CPU or a GPU.

Needs the ``torch`` extra.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import DynamicCache

from facellava.errors import FileMissing, UsageError
from facellava.files import read_object
from facellava.model.config import ExpertVisionConfig, FaceLlavaConfig
from facellava.model.experts import ExpertEncoder
from facellava.model.modeling import FaceLlavaForConditionalGeneration
from facellava.model.processing import FaceLlavaProcessor
from facellava.runtime.decoder import Decoder, State
from facellava.runtime.engine import Engine, Visual, whole
from facellava.runtime.quantized import load_model
from facellava.types import FaceClip, Precision

Past = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values (1, heads, length, size) of every layer."""
CONTEXT = 4096
"""Tokens, for language models that state no limit."""


def is_trained_folder(folder: Path) -> bool:
    """Whether a folder holds a whole model as training writes it, and not the small default's difference."""
    path = folder / "config.json"
    if not path.is_file() or (folder / "model.json").is_file():
        return False
    return read_object(path).get("model_type") == FaceLlavaConfig.model_type


class TorchDecoder(Decoder):
    """A causal language model of transformers, its head evaluated where it is asked for."""

    def __init__(self, language_model: Any) -> None:
        self._model = language_model
        # transformers renamed it in 5.24; other models and versions know the old name only
        known = inspect.signature(language_model.get_decoder().forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"
        self.max_length = getattr(language_model.config, "max_position_embeddings", CONTEXT)

    def empty(self) -> State:
        """See ``Decoder.empty``."""
        return State((), 0, np.zeros(self._model.config.vocab_size, np.float32))

    def nbytes(self, state: State) -> int:
        """See ``Decoder.nbytes``."""
        return sum(part.nelement() * part.element_size() for layer in state.past for part in layer)

    @torch.no_grad()
    def run(
        self,
        state: State,
        embeds: NDArray[np.float32],
        wanted: NDArray[np.int64],
        position_ids: NDArray[np.int64] | None = None,
        bias: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], Past]:
        """See ``Decoder.run``."""
        read, cache = self._forward(state, embeds, position_ids, bias)
        hidden = read.last_hidden_state
        # of a model that is spread over several devices the last block may be on another than the first
        logits = self._model.get_output_embeddings()(hidden[0, torch.from_numpy(wanted).to(hidden.device)])
        layers: list[Any] = cache.layers
        past = tuple((layer.keys, layer.values) for layer in layers)
        return logits.float().cpu().numpy(), past

    def _forward(
        self,
        state: State,
        embeds: NDArray[np.float32],
        position_ids: NDArray[np.int64] | None = None,
        bias: NDArray[np.float32] | None = None,
        **options: Any,
    ) -> tuple[Any, DynamicCache]:
        device, dtype, new = self._model.device, self._model.dtype, len(embeds)
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(state.past):
            cache.update(keys, values, layer)
        if position_ids is None:
            position_ids = np.arange(state.length, state.length + new)
        read = self._model.get_decoder()(
            inputs_embeds=torch.from_numpy(embeds).to(device, dtype)[None],
            position_ids=torch.from_numpy(position_ids).to(device)[None],
            attention_mask=None if bias is None else _mask(bias, state.length, device, dtype),
            use_cache=True,
            **{self._cache_name: cache},
            **options,
        )
        return read, cache

    @torch.no_grad()
    def attention(self, state: State, embeds: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``Decoder.attention``."""
        usual = self._model.config._attn_implementation
        self._model.set_attn_implementation("eager")  # the fast ways never form the weights
        try:
            layers = self._forward(state, embeds, output_attentions=True)[0].attentions
        finally:
            self._model.set_attn_implementation(usual)
        return torch.stack([layer[0].float().mean(0).cpu() for layer in layers]).mean(0).numpy()


def _mask(bias: NDArray[np.float32], length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Bias (1, 1, S, length + S) with causality added: position i sees the prefix and the new ones up to itself."""
    new = bias.shape[2]
    later = torch.ones(new, length + new, dtype=torch.bool, device=device).triu(length + 1)
    given = torch.from_numpy(bias).to(device)
    return given.masked_fill(later, torch.finfo(torch.float32).min).clamp(min=torch.finfo(dtype).min).to(dtype)


class TorchEmbeddings:
    """Input embeddings of a model, row by row."""

    def __init__(self, model: FaceLlavaForConditionalGeneration) -> None:
        self._table = model.get_input_embeddings()

    @torch.no_grad()
    def __getitem__(self, ids: Sequence[int], /) -> NDArray[np.float32]:
        device = next(self._table.parameters()).device
        rows = self._table(torch.tensor(list(ids), dtype=torch.long, device=device))
        return rows.float().cpu().numpy()


class TorchEngine(Engine):
    """A folder that ``facellava train`` wrote, ready to answer.

    Args:
        folder: with ``config.json``, ``model.safetensors``, the processor, and, where the model was calibrated, a
            ``calibration.json`` of thresholds, temperatures and untrained labels.
        resolve: weight name -> path, for the frozen experts.
        device: of torch; the first GPU where there is one, else the CPU.
        precision: see ``quantized.load_model``; also stands behind the engine's name.

    Raises:
        FileMissing: the folder holds no trained model. MissingExtra, UsageError: see ``quantized.load_model``.
    """

    def __init__(
        self,
        folder: Path,
        resolve: Callable[[str], Path],
        *,
        device: str = "",
        precision: Precision | Literal[""] = "",
    ) -> None:
        if not is_trained_folder(folder):
            raise FileMissing(f"{folder} holds no trained model: give the folder 'final' of a run")
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = load_model(folder, precision, where)
        config = self._model.config
        experts = isinstance(config.vision, ExpertVisionConfig)
        encoder = ExpertEncoder(resolve) if experts else None
        self._processor = FaceLlavaProcessor.from_pretrained(folder, encoder)
        self.name = "-".join(filter(None, (_name(folder), precision)))
        self.margin, self.crop, self.grid = config.crop_margin, config.crop, config.vision.grid
        calibration = _calibration(folder)
        self.untrained = calibration.get("untrained", {})
        self.thresholds = calibration.get("thresholds", {})
        self.temperature = calibration.get("temperature", {})
        self._take_head(self._processor.head)
        self._style = self._processor.style
        self._placeholder = config.image_token_id
        eos = self._model.language_model.config.eos_token_id
        ends = [eos] if isinstance(eos, int) else list(eos or [])
        closing = self.tokenize(self._style.after_assistant.strip())
        self._stop = frozenset([*ends, *closing[:1]])
        self._embed = TorchEmbeddings(self._model)
        self._decoder = TorchDecoder(self._model.language_model)

    def tokenize(self, text: str) -> list[int]:
        """See ``Engine.tokenize``."""
        return self._processor.tokenizer.encode(whole(text), add_special_tokens=False)

    def decode(self, ids: list[int]) -> str:
        """See ``Engine.decode``."""
        return self._processor.decode(ids)

    def tokenizer_json(self) -> str:
        """See ``Engine.tokenizer_json``; a tokenizer of transformers without such a form raises UsageError."""
        fast = getattr(self._processor.tokenizer, "backend_tokenizer", None)
        if not isinstance(fast, Tokenizer):
            raise UsageError(f"{self.name} has a tokenizer without tokenizer.json: its answers cannot be constrained")
        plain = Tokenizer.from_str(fast.to_str())
        plain.no_padding()
        plain.no_truncation()
        return plain.to_str()

    @torch.no_grad()
    def see(self, clip: FaceClip) -> Visual:
        """See ``Engine.see``."""
        config, device, dtype = self._model.config, self._model.device, self._model.dtype
        looked = self._processor.look(clip)
        inputs = {name: value[None].to(device, dtype) for name, value in looked.inputs.items()}
        attends = config.fusion.kind != "none"
        seen = self._model.encode_visual(**inputs, need_attention=attends)
        return Visual(
            seen.tokens[0].float().cpu().numpy(),
            None if seen.attention is None else seen.attention[0].float().cpu().numpy(),
            np.zeros(0, np.float32) if looked.probabilities is None else looked.probabilities,
            looked.report,
            config.visual_blocks(looked.frames),
        )


def _name(folder: Path) -> str:
    """The recipe's name where the run is known, else the folder's."""
    path = folder / "recipe.json"
    return str(read_object(path).get("name", folder.resolve().name)) if path.is_file() else folder.resolve().name


def _calibration(folder: Path) -> dict[str, Any]:
    path = folder / "calibration.json"
    return read_object(path) if path.is_file() else {}
