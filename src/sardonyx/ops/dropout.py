"""Dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sardonyx.dtypes import BOOL, FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ
from sardonyx.errors import InferenceError
from sardonyx.ir.node import AttributeType
from sardonyx.ops import types
from sardonyx.ops.fact import Fact
from sardonyx.ops.operator import Operator, same_as
from sardonyx.ops.schema import ABSENT, Input, Output, attribute, past, was_attribute

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array
    from sardonyx.ops.operator import Values
    from sardonyx.ops.writer import Writer

_DROPOUT_TYPES = (
    *types.FLOATS_BFLOAT16,
    FLOAT8E4M3FN,
    FLOAT8E4M3FNUZ,
    FLOAT8E5M2,
    FLOAT8E5M2FNUZ,
)


class Dropout(Operator, since=22):
    """The data; in training each element is 0 with probability `ratio`, else / (1 - ratio).

    `mask` says which were kept. Before opset 12 the mask has T's type up to opset 7, and a node
    trains only before opset 7, when `is_test` is 0.
    """

    data = Input("T")
    ratio = Input("T1", "A scalar, 0.5 where omitted.", optional=True)
    training_mode = Input("T2", "A scalar, false where omitted.", optional=True)
    output, mask = Output("T"), Output("T2", optional=True)
    T, T1, T2 = _DROPOUT_TYPES, _DROPOUT_TYPES, (BOOL,)
    seed: int | None = attribute(None, since=12)
    is_test: int = attribute(0, before=7)
    consumed_inputs: tuple[int, ...] | None = attribute(None, before=6)
    deterministic = False
    history = (
        past(13, T=types.FLOATS_BFLOAT16, T1=types.FLOATS),
        past(12, T=types.FLOATS),
        past(
            10,
            ratio=was_attribute(AttributeType.FLOAT, 0.5),
            training_mode=ABSENT,
            mask=Output("T1", optional=True),
            T1=(BOOL,),
        ),
        past(7, mask=Output("T", optional=True)),
        past(6),
        past(1),
    )

    def infer(
        self, data: Fact, ratio: Fact | None = None, training_mode: Fact | None = None
    ) -> tuple[Fact, ...]:
        for name, fact in (("ratio", ratio), ("training_mode", training_mode)):
            if fact is not None and fact.shape is not None and len(fact.shape) > 1:
                raise InferenceError(f"Dropout: {name} must be a scalar")
        return same_as(data), Fact.tensor(BOOL if self.version >= 10 else data.dtype, data.shape)

    def reference(
        self, data: Array, ratio: Array | None = None, training_mode: Array | None = None
    ) -> tuple[Array, Array]:
        p = 0.5 if ratio is None or not ratio.size else float(ratio.reshape(-1)[0])
        trains = self.version < 7 and not self.is_test
        if self.version >= 12 and training_mode is not None and training_mode.size:
            trains = bool(training_mode.reshape(-1)[0])
        mask_type = np.dtype(bool) if self.version >= 10 else data.dtype
        if not trains or p == 0:
            return data, np.ones(data.shape, mask_type)
        if not 0 < p < 1:
            raise InferenceError(f"Dropout: ratio is {p}, it must be in [0, 1)")
        # the generator that the standard's test data was made with
        generator = np.random.RandomState(None if self.seed is None else self.seed % (1 << 32))
        kept = np.asarray(generator.uniform(0, 1, data.shape) >= p)
        with np.errstate(all="ignore"):
            x = data if data.dtype == np.float64 else data.astype(np.float32)
            output = np.where(kept, x / x.dtype.type(1 - p), x.dtype.type(0)).astype(data.dtype)
        return output, np.asarray(kept, mask_type)

    def gradient(self, op: Writer, grads: Values, inputs: Values, outputs: Values) -> Values:
        dy, (data, ratio, training_mode) = grads[0], inputs
        if dy is None or self.version < 12 or training_mode is None:
            return [dy, None, None]
        mask = op.with_output(outputs[0], 1, "mask")
        p = op.like(0.5, data) if ratio is None else op.cast(ratio, op.dtype(data))
        scale = op.Where(training_mode, op.Reciprocal(op.Sub(1.0, p)), 1.0)
        return [op.Where(mask, op.Mul(dy, scale), 0.0), None, None]
