"""Shape checking for the model, and the parity fixtures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook
from safetensors.torch import load_file
from torch import Tensor

# Must run before anything imports these modules: from then on every annotated shape is checked at every call.
SHAPED = ("clip_tower", "frgca", "frgca_folded", "frlp", "modeling", "official_keys", "preprocess", "projector")
_hook = install_import_hook([f"facellava.model.{name}" for name in SHAPED], "beartype.beartype")
torch.set_num_threads(1)

COPIED = Path(__file__).parent / "data"


class Parity:
    """One fixture: ``weight``, ``input`` and ``output`` tensors by name."""

    def __init__(self, path: Path) -> None:
        tensors = load_file(path)
        self.weight, self.input, self.output = (
            {k.removeprefix(f"{kind}."): v for k, v in tensors.items() if k.startswith(f"{kind}.")}
            for kind in ("weight", "input", "output")
        )

    def weights_under(self, prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.weight.items() if k.startswith(prefix)}


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Callable[[str], Parity]:
    """Load a fixture by name from the few copied here, else from the development data folder (skips when absent)."""

    def load(name: str) -> Parity:
        copied = COPIED / f"{name}.safetensors"
        if copied.is_file():
            return Parity(copied)
        return Parity(request.getfixturevalue("shared_dir") / "parity" / copied.name)

    return load
