"""The array columns of the store of record (Parquet): one array of a fixed shape for each frame of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

ARRAYS: dict[str, tuple[int, ...]] = {"landmarks": (68, 2), "blendshapes": (52,)}
"""Column -> shape of one frame's float32 array."""


def array_column(values: Sequence[NDArray[np.float32] | None], shape: tuple[int, ...]) -> pa.Array:
    """Nested lists straight from arrays (T, *shape): a thousand times fewer Python objects than lists of lists."""
    import pyarrow as pa

    flat = [value.reshape(-1) for value in values if value is not None]
    items: pa.Array = pa.array(np.concatenate(flat) if flat else [], pa.float32())
    for size in reversed(shape):
        items = pa.FixedSizeListArray.from_arrays(items, size)
    ends = np.cumsum([0, *(0 if value is None else len(value) for value in values)])
    starts = [None if value is None else int(end) for value, end in zip(values, ends, strict=False)]
    return pa.ListArray.from_arrays(pa.array([*starts, int(ends[-1])], pa.int32()), items)


def arrays_of(column: pa.Array, shape: tuple[int, ...]) -> list[NDArray[np.float32] | None]:
    """The other way round: float32 (T, *shape) of each row, None where there is none."""
    found: list[NDArray[np.float32] | None] = []
    for value in column:
        flat = value.values if value.is_valid else None
        for _ in shape:
            flat = None if flat is None else flat.flatten()
        found.append(None if flat is None else flat.to_numpy(zero_copy_only=False).reshape(-1, *shape).copy())
    return found
