"""How each precision keeps a model's numbers, and which of its layers 8 and 4 bits are for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from torch import nn

from facellava.types import Precision

__all__ = ["PRECISIONS", "Form", "form_of", "quantized_linears"]

Kind = Literal["gpu", "cpu"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "int4")


class Form(NamedTuple):
    """How a precision keeps numbers, in bytes.

    Attributes:
        linear: a weight of the language model's linear layers. scale: once for each output of such a layer.
        rest: any other parameter, and an activation. cache: a number of the keys and values.
    """

    linear: float
    scale: float
    rest: int
    cache: int

    @property
    def quantized(self) -> bool:
        """Whether linear layers are kept in fewer bits than the rest."""
        return self.linear < self.rest


_FORMS: dict[tuple[Precision, Kind], Form] = {
    **{("fp32", kind): Form(4, 0, 4, 4) for kind in ("gpu", "cpu")},
    **{("bf16", kind): Form(2, 0, 2, 2) for kind in ("gpu", "cpu")},
    ("int8", "gpu"): Form(1, 4, 2, 2),
    ("int8", "cpu"): Form(1, 4, 4, 4),
    # 4 bits, an 8-bit scale for 64 of them, and a single-precision scale for 256 of those
    ("int4", "gpu"): Form(0.5 + 1 / 64 + 4 / (64 * 256), 0, 2, 2),
}


def form_of(precision: Precision, kind: Kind) -> Form | None:
    """None where a model cannot be loaded so: 4 bits on a processor (see ``runtime.quantized``)."""
    return _FORMS.get((precision, kind))


def quantized_linears(model: Any) -> Iterator[tuple[str, nn.Linear]]:
    """The layers that 8 and 4 bits are for: the language model's linear ones, without its head."""
    head = model.get_output_embeddings()
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and part is not head and name.startswith("language_model."):
            yield name, part
