"""The numbers of each element type at which arithmetic goes wrong."""

from __future__ import annotations

from itertools import product
from typing import Any

import ml_dtypes
import numpy as np

from sardonyx.dtypes import BOOL, DType


def extremes(dtype: DType) -> Any:
    if dtype is BOOL:
        return np.array([False, True])
    if dtype.is_floating:
        return _of_floats(dtype)
    limits = np.iinfo(dtype.numpy.str)
    numbers = {0, 1, 2, 3, 7, 100, limits.max, limits.max - 1, limits.max // 2, limits.max // 2 + 1}
    numbers |= {limits.min, limits.min + 1, -1, -2, -7, 31, 32, 63, 1 << 24, (1 << 53) + 1}
    return np.array(sorted(n for n in numbers if limits.min <= n <= limits.max), dtype.numpy)


def _of_floats(dtype: DType) -> Any:
    limits = ml_dtypes.finfo(dtype.numpy)
    tiny, least = float(limits.tiny), float(limits.smallest_subnormal)
    eps, most = float(limits.eps), float(limits.max)
    sizes = [
        0.0, least, tiny - least, tiny, tiny + least, eps, 0.5, 1 - eps / 2, 1.0, 1 + eps, 1.5, 2.5,
        3.0, 1 / 3, 127.5, 128.0, 255.0, 32768.0, 65504.0, 2.0**31, 2.0**32, 2.0**53, 2.0**63,
        2.0**64, most / 2, most, np.inf, 1 + 2.0**-11 + 2.0**-30, 1 + 3 * 2.0**-11 - 2.0**-30,
        2.0**-25 + 2.0**-60, 65520 - 2.0**-30,
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        return np.array([*sizes, *(-size for size in sizes), np.nan]).astype(dtype.numpy)


def combinations(*columns: Any, most: int = 4000) -> list[Any]:
    """All combinations of the elements of `columns`, or every so manieth of them."""
    rows = list(product(*columns))
    rows = rows[:: len(rows) // most + 1]
    return [np.array(column, source.dtype) for column, source in zip(zip(*rows), columns)]
