"""FRGCA's attention without its projections over the visual tokens: the same numbers, in another order of products.

A head's scores are ``(x Wq' + bq) k``. With a handful of keys it is cheaper to take the weights to the keys,
``x (Wq' k) + bq k``, than to take every visual token through them; likewise ``(A v) Wo' = A (v Wo')``. The visual
tokens then meet only matrices as wide as heads times keys. This holds for any input and any weights: nothing is
prepared beforehand and nothing is approximated.

What cannot be folded: the branch of ``official_simple`` and ``official_masked``, a projection behind a LayerNorm, whose
input holds the visual tokens themselves.

Shapes: b clips, t frames, n visual tokens a frame, m landmark tokens a frame, h heads, c width of a head, d width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Projections", "attend_folded", "pays"]

WORTH = 3
"""Folding starts where it divides the multiplications by this: for less, its small products take as long (measured)."""


class Projections(NamedTuple):
    """The layers of one attention block; ``out`` is None for ``official_masked``, which has none."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear | None


def pays(layers: Projections, visual: Float[Tensor, "b t n d"], keys: int, heads: int) -> bool:
    """Whether folding is possible, and worth it for so many keys a frame.

    Only plain layers whose weights lie whole beside the tokens can be folded: an adapter around a layer, quantised
    weights, and weights that are fetched when a layer is called (offloaded, or sharded by ZeRO-3) cannot. Nor under
    autocast, which would round the tokens themselves.
    """
    tokens, dim = visual.shape[2:]
    if torch.is_autocast_enabled(visual.device.type) or WORTH * keys * (dim + tokens * heads) > tokens * dim:
        return False
    return all(
        type(layer) is nn.Linear
        and layer.weight.shape == (dim, dim)
        and (layer.weight.device, layer.weight.dtype) == (visual.device, visual.dtype)
        for layer in (layers.query, layers.out)
        if layer is not None
    )


def attend_folded(
    layers: Projections,
    visual: Float[Tensor, "b t n d"],
    regions: Float[Tensor, "b t m d"],
    bias: Float[Tensor, "b t n m"] | None,
    heads: int,
    scale: float,
) -> tuple[Float[Tensor, "b t n d"], Float[Tensor, "b t h n m"]]:
    """The tokens plus what they gather from the regions (after ``out`` where there is one), and the attention weights.

    Args:
        bias: added to the scores of every head.
        scale: of the scores.
    """
    b, t = visual.shape[:2]
    keys_btmhc = layers.key(regions).unflatten(-1, (heads, -1)) * scale
    values_btmhc = layers.value(regions).unflatten(-1, (heads, -1))
    query_hcd, query_hc = (w.unflatten(0, (heads, -1)) for w in (layers.query.weight, layers.query.bias))
    folded_bthmd = torch.einsum("btmhc,hcd->bthmd", keys_btmhc, query_hcd)
    constant_bthm = torch.einsum("btmhc,hc->bthm", keys_btmhc, query_hc)
    scores = visual @ folded_bthmd.flatten(2, 3).transpose(-1, -2) + constant_bthm.flatten(2).unsqueeze(2)
    scores_btnhm = scores.unflatten(-1, (heads, -1))
    if bias is not None:
        scores_btnhm = scores_btnhm + bias.unsqueeze(3)
    attention_btnhm = scores_btnhm.softmax(dim=-1)
    if layers.out is None:
        context = torch.einsum("btnhm,btmhc->btnhc", attention_btnhm, values_btmhc).flatten(3)
        enriched = context + visual
    else:
        out_dhc = layers.out.weight.unflatten(1, (heads, -1))
        written_bthmd = torch.einsum("btmhc,dhc->bthmd", values_btmhc, out_dhc)
        added = (x.flatten(0, 1) for x in (visual, attention_btnhm.flatten(3), written_bthmd.flatten(2, 3)))
        enriched = torch.baddbmm(*added).add_(layers.out.bias).unflatten(0, (b, t))
    return enriched, attention_btnhm.transpose(2, 3)
