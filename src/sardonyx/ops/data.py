"""Operators that pick and place elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import INT32, INT64
from sardonyx.errors import ExecutionError, InferenceError
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.operator import Operator
from sardonyx.ops.schema import Input, Output, past

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array


class Gather(Operator, since=13):
    """The slices of `data` that `indices` names along `axis`."""

    data, indices = Input("T", "Rank r >= 1."), Input("Tind", "Any rank q.")
    output = Output("T", "Rank q + r - 1.")
    T, Tind = types.ALL_BFLOAT16, (INT32, INT64)
    axis: int = 0
    history = past(11, T=types.ALL_BEFORE_BFLOAT16), past(1)
    moves_data = True

    def infer(self, data: Fact, indices: Fact) -> Fact:
        if data.shape is None or indices.shape is None:
            return Fact.tensor(data.dtype)
        rank = len(data.shape)
        if not -rank <= self.axis < rank:
            raise InferenceError(
                f"Gather requires -r <= axis < r, got axis={self.axis} for data of rank {rank}"
            )
        axis = self.axis % rank
        return Fact.tensor(
            data.dtype, (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
        )

    def reference(self, data: Array, indices: Array) -> Array:
        size = data.shape[self.axis]
        if indices.size and not (-size <= indices.min() and indices.max() < size):
            raise ExecutionError(f"Gather index outside [-{size}, {size - 1}]")
        return np.take(data, indices.astype(np.int64), axis=self.axis)
